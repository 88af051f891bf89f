package plugin

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/kmsctl/kms/runtime/names"
)

// Describe is what `BUILD describe` prints as one JSON object.
type Describe struct {
	Version   string   `json:"version"`  // the version the build was written for
	Label     string   `json:"label"`    // for people: "2.0.3", "2.0 with the dragon"
	Contract  int      `json:"contract"` // the contract version it serves
	SchemaMin int      `json:"schema_min"`
	SchemaMax int      `json:"schema_max"`
	Roles     []string `json:"roles"` // empty means ua and api
}

// ContractError says that a build speaks a contract version this control plane does not.
type ContractError struct {
	Got  int
	Want []int
}

func (e *ContractError) Error() string {
	return fmt.Sprintf("the build speaks contract version %d, this control plane speaks %v", e.Got, e.Want)
}

var roleRE = regexp.MustCompile(`^[a-z]{1,16}$`)

// Check reports what is wrong with a description; a *ContractError or *names.Error where it is that.
func (d Describe) Check() error {
	if want := Contracts(); !slices.Contains(want, d.Contract) {
		return &ContractError{Got: d.Contract, Want: want}
	}
	if err := names.Version(d.Version); err != nil {
		return err
	}
	if err := names.Display(d.Label); err != nil {
		return fmt.Errorf("bad label: %w", err)
	}
	if d.SchemaMin < 1 || d.SchemaMax < d.SchemaMin {
		return fmt.Errorf("bad schema range %d to %d", d.SchemaMin, d.SchemaMax)
	}
	for _, r := range d.Roles {
		if !roleRE.MatchString(r) {
			return fmt.Errorf("bad role %q: want %s", r, roleRE)
		}
	}
	if len(d.Roles) > 0 && !slices.Contains(d.Roles, RoleUA) && !slices.Contains(d.Roles, RoleAPI) {
		return errors.New("the build has neither the role ua nor the role api")
	}
	return nil
}

// ProbeTarget is what `BUILD probe` reads as JSON from stdin: where a set listens and the internal tenant's credentials.
// UA and API are `unix:/path`, `http://host:port` or `https://host:port`.
type ProbeTarget struct {
	UA      string `json:"ua"`
	API     string `json:"api"`
	Version string `json:"version"` // the public name in the URL, which may differ from the build's own
	Tenant  string `json:"tenant"`
	Token   string `json:"token"`             // secret: a user token
	Key     string `json:"key"`               // secret: an API key
	CA      string `json:"ca,omitempty"`      // PEM trusted for https
	Channel string `json:"channel,omitempty"` // where the probe may talk; empty: the build makes its own
	User    string `json:"user,omitempty"`    // whose token it is
}
