package ngword

import (
	"embed"
	"strings"

	"github.com/kmsctl/kms/runtime/store"
)

//go:embed lists
var shippedFiles embed.FS

// shippedPrefix begins the name of every base list that KMS brings along, and of no other.
const shippedPrefix = "kms-"

// shippedNames are the base lists that KMS brings along, as Shipped returns them.
var shippedNames = []string{"kms-allow-en", "kms-allow-ja"}

// Shipped returns the base lists that KMS brings along: ordinary words that hold common NG words, as allow entries.
func Shipped() []store.NGList {
	var lists []store.NGList
	for _, name := range shippedNames {
		text, err := shippedFiles.ReadFile("lists/" + strings.TrimPrefix(name, "kms-") + ".txt")
		if err != nil {
			panic(err) // the file is part of the program
		}
		entries := shippedEntries(string(text))
		lists = append(lists, store.NGList{Tenant: store.NGBase, Name: name, Settings: store.NGSettings{Include: []string{}},
			Words: len(entries), Entries: entries})
	}
	return lists
}

// shippedEntries reads one allow entry a line; `#` begins a comment.
func shippedEntries(text string) (entries []store.NGEntry) {
	for line := range strings.Lines(text) {
		word, _, _ := strings.Cut(line, "#")
		if word = strings.TrimSpace(word); word != "" {
			entries = append(entries, store.NGEntry{Word: word, Kind: store.NGAllow, Action: store.NGReject, Mode: store.NGModeAuto})
		}
	}
	return entries
}
