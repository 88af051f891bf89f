package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml"
	"github.com/mattn/go-runewidth"
	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"

	"github.com/kmsctl/kms/controlplane"
)

const (
	tableWidth = 80 // -o wide shows everything
	minFlex    = 6  // how far a flexible column may shrink
)

// column is one of a table's columns. A flex column gives way when the table is too wide; a wide one shows with -o wide only.
type column struct {
	title string
	flex  bool
	wide  bool
	right bool
}

// table is what a list command shows: the data for programs, rows for people, the first column for --quiet.
type table struct {
	data    any
	columns []column
	rows    [][]string
	empty   string // said instead of a table without rows
}

// cells counts terminal cells; ambiguous characters count as one, as tablewriter is told too.
var cells = func() *runewidth.Condition {
	c := runewidth.NewCondition()
	c.EastAsianWidth = false
	return c
}()

// print shows a table in the chosen format.
func (c *cli) print(t table) error {
	if c.forPrograms() {
		return c.encode(t.data)
	}
	if c.quiet {
		for _, row := range t.rows {
			fmt.Fprintln(c.out, clean(row[0]))
		}
		return nil
	}
	if len(t.rows) == 0 {
		fmt.Fprintln(c.out, t.empty)
		return nil
	}
	return c.draw(c.out, t)
}

// encode writes v as the API names it, in JSON or YAML.
func (c *cli) encode(v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err == nil && c.output == "yaml" {
		text, err = toYAML(text)
	}
	if err != nil {
		return controlplane.Errorf(controlplane.Failed, "internal error: cannot encode: %v", err)
	}
	_, err = fmt.Fprintf(c.out, "%s\n", bytes.TrimRight(text, "\n"))
	return err
}

// toYAML keeps the order of JSON's fields. A string with characters that YAML allows only as escapes, as the audit trail of a
// hostile name has, is quoted: the library leaves them bare.
func toYAML(text []byte) ([]byte, error) {
	var v any
	if err := yaml.UnmarshalWithOptions(text, &v, yaml.UseOrderedMap()); err != nil {
		return nil, err
	}
	return yaml.MarshalWithOptions(v, yaml.CustomMarshaler[string](func(s string) ([]byte, error) {
		if clean(s) != s && strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			return []byte(strconv.QuoteToASCII(s)), nil
		}
		return yaml.Marshal(s)
	}))
}

// encodeLine writes one item of a stream: a line of JSON, or a YAML document.
func (c *cli) encodeLine(v any) error {
	if c.output == "yaml" {
		fmt.Fprintln(c.out, "---")
		return c.encode(v)
	}
	return json.NewEncoder(c.out).Encode(v)
}

func (c *cli) draw(out io.Writer, t table) error {
	columns, rows := c.visible(t)
	if c.output != "wide" {
		shrink(columns, rows)
	}
	text, err := render(columns, rows)
	if err != nil {
		return controlplane.Errorf(controlplane.Failed, "internal error: cannot draw table: %v", err)
	}
	for line := range strings.Lines(text) {
		fmt.Fprintln(out, c.paint(strings.TrimRight(line, " \n")))
	}
	return nil
}

// render lays the cells out by tablewriter, without borders and without changing a cell.
func render(columns []column, rows [][]string) (string, error) {
	var text bytes.Buffer
	titles := make([]string, len(columns))
	align := tw.CellAlignment{Global: tw.AlignLeft, PerColumn: make([]tw.Align, len(columns))}
	for i, col := range columns {
		titles[i], align.PerColumn[i] = col.title, tw.AlignLeft
		if col.right {
			align.PerColumn[i] = tw.AlignRight
		}
	}
	asIs := tw.CellConfig{Alignment: align, Formatting: tw.CellFormatting{AutoFormat: tw.Off, AutoWrap: tw.WrapNone}}
	w := tablewriter.NewTable(&text,
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders: tw.BorderNone, Symbols: tw.NewSymbols(tw.StyleNone),
			Settings: tw.Settings{Separators: tw.SeparatorsNone, Lines: tw.LinesNone}})),
		tablewriter.WithConfig(tablewriter.Config{Header: asIs, Row: asIs}),
		tablewriter.WithPadding(tw.Padding{Left: "", Right: "  ", Overwrite: true}),
		tablewriter.WithTrimSpace(tw.Off), tablewriter.WithEastAsian(tw.Off))
	w.Header(titles)
	for _, row := range rows {
		if err := w.Append(row); err != nil {
			return "", err
		}
	}
	err := w.Render()
	return text.String(), err
}

// visible leaves out wide columns and makes every cell safe for a terminal.
func (c *cli) visible(t table) (columns []column, rows [][]string) {
	var keep []int
	for i, col := range t.columns {
		if !col.wide || c.output == "wide" {
			keep = append(keep, i)
			columns = append(columns, col)
		}
	}
	for _, row := range t.rows {
		shown := make([]string, 0, len(keep))
		for _, i := range keep {
			shown = append(shown, clean(row[i]))
		}
		rows = append(rows, shown)
	}
	return columns, rows
}

// shrink takes cells from the widest flexible column, one at a time, until the table fits.
func shrink(columns []column, rows [][]string) {
	widths := make([]int, len(columns))
	total := 2 * (len(columns) - 1)
	for i, col := range columns {
		widths[i] = cells.StringWidth(col.title)
		for _, row := range rows {
			widths[i] = max(widths[i], cells.StringWidth(row[i]))
		}
		total += widths[i]
	}
	for ; total > tableWidth; total-- {
		widest := -1
		for i, col := range columns {
			if col.flex && widths[i] > max(minFlex, cells.StringWidth(col.title)) && (widest < 0 || widths[i] > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
	}
	for _, row := range rows {
		for i := range row {
			row[i] = cells.Truncate(row[i], widths[i], "…")
		}
	}
}

// colours of the words that say how something is.
var colours = map[string]string{
	"ok": "32", "live": "32", "serving": "32", "ready": "32", "active": "32", "done": "32", "up": "32", "yes": "32",
	"warning": "33", "degraded": "33", "draining": "33", "deprecated": "33", "starting": "33", "restarting": "33", "running": "33", "unready": "33",
	"error": "31", "failed": "31", "down": "31", "suspended": "31", "no": "31", "superseded": "31",
}

// paint colours the state words of a line that fill a cell of their own.
func (c *cli) paint(line string) string {
	if !c.color {
		return line
	}
	parts := strings.Split(line, "  ")
	for i, part := range parts {
		word := strings.TrimSpace(part)
		if code, ok := colours[word]; ok {
			parts[i] = strings.Replace(part, word, "\x1b["+code+"m"+word+"\x1b[0m", 1)
		}
	}
	return strings.Join(parts, "  ")
}
