package nginx

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"

	"github.com/google/renameio/v2"

	"github.com/kmsctl/kms/controlplane"
	"github.com/kmsctl/kms/templates"
)

// body is what clients read when nginx itself answers: a stable code, a sentence, and where to go.
type body struct {
	Code     string    `json:"code,omitempty"`
	Message  string    `json:"message,omitempty"`
	Versions []named   `json:"versions"`
	Retired  []retired `json:"retired,omitempty"`
}

type named struct {
	Version    string                    `json:"version"`
	Deprecated *controlplane.Deprecation `json:"deprecated,omitempty"`
}

type retired struct {
	Version string `json:"version"`
	Message string `json:"message,omitempty"`
}

// WriteBodies writes /versions and the bodies of the errors that nginx answers itself. They are read at each request, so no
// reload is needed.
func WriteBodies(dir string, versions []Version) error {
	live, gone := []named{}, []retired{}
	for _, v := range versions {
		if v.Retired {
			gone = append(gone, retired{v.Name, v.Message})
		} else {
			live = append(live, named{v.Name, v.Deprecation})
		}
	}
	sort.Slice(live, func(i, j int) bool { return live[i].Version < live[j].Version })
	sort.Slice(gone, func(i, j int) bool { return gone[i].Version < gone[j].Version })
	bodies := map[string]body{
		"versions.json": {Versions: live},
		"400.json":      {Code: "bad_request", Message: "nginx cannot read this request", Versions: live},
		"403.json":      {Code: "forbidden", Message: "this is not for your address", Versions: live},
		"405.json":      {Code: "method_not_allowed", Message: "this address takes GET and HEAD", Versions: live},
		"404.json":      {Code: "not_found", Message: "there is nothing at this address; the live versions are listed here", Versions: live},
		"410.json":      {Code: "version_retired", Message: "this version was retired; move to a live one", Versions: live, Retired: gone},
		"413.json":      {Code: "too_large", Message: "the request's body is too large", Versions: live},
		"503.json":      {Code: "unavailable", Message: "the version is not answering; try again in a moment", Versions: live},
	}
	dir = filepath.Join(dir, "bodies")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make %q: %v", dir, err)
	}
	for name, b := range bodies {
		text, err := json.Marshal(b)
		if err != nil {
			return fmt.Errorf("internal error: %v", err)
		}
		// Made in its own directory, it belongs to the group that dir gives: see Inheritable.
		if err := renameio.WriteFile(filepath.Join(dir, name), append(text, '\n'), 0o644, renameio.WithTempDir(dir)); err != nil {
			return fmt.Errorf("cannot write %q: %v", name, err)
		}
	}
	return nil
}

// WritePage lays out the embedded web page below dir/web.
func WritePage(dir string) error {
	page, err := fs.Sub(templates.FS, "web")
	if err != nil {
		return fmt.Errorf("internal error: %v", err)
	}
	return fs.WalkDir(page, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(dir, "web", path)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		text, err := fs.ReadFile(page, path)
		if err != nil {
			return err
		}
		return renameio.WriteFile(target, text, 0o644, renameio.WithTempDir(filepath.Dir(target)))
	})
}
