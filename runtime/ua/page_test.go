package ua_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/ua"
)

// TestPages_tellEveryCode holds the tables of error and close codes against the code.
func TestPages_tellEveryCode(t *testing.T) {
	errorCodes := []string{
		chat.CodeBadFrame, chat.CodeTooLarge, chat.CodeBadName, chat.CodeNotLoggedIn, chat.CodeBadToken, chat.CodeTokenExpired,
		chat.CodeTenantSuspended, chat.CodeNoSuchChannel, chat.CodeNotMember, chat.CodeNotJoined, chat.CodeMuted, chat.CodeRateLimited,
		chat.CodeNGWord, chat.CodeVersionTooOld, chat.CodeUnavailable, chat.CodeBusy, chat.CodeInternal,
		ua.CodeUnknownCommand, ua.CodeAlreadyLoggedIn, ua.CodeTooManyChannels, chat.CodeTooManyConnections,
	}
	// A word of each row, so that codes that trade places are noticed.
	closeCodes := map[int]string{
		hub.CloseNormal: "you closed", hub.CloseGoingAway: "went away", hub.CloseProtocol: "broken", hub.CloseBinary: "binary",
		hub.CloseNotUTF8: "UTF-8", hub.CloseTooLarge: "too large", hub.CloseInternal: "internal", hub.CloseRestart: "restarts",
		hub.CloseTryLater: "busy", hub.CloseBadFrame: "bad frames", hub.CloseUnauthorized: "token", hub.CloseForbidden: "suspended",
		hub.CloseSlow: "slowly", hub.CloseIdle: "sign of life",
	}
	for _, page := range []string{"../../docs/protocol/1.0.md", "../../docs/protocol/2.0.md"} {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		rows := string(data)
		for _, code := range errorCodes {
			if !strings.Contains(rows, "\n| `"+code+"` |") {
				t.Errorf("%s has no row for %s", page, code)
			}
		}
		for _, code := range hub.Codes {
			if row := closeRow(rows, code.Code); row == "" || closeCodes[code.Code] == "" || !strings.Contains(row, closeCodes[code.Code]) {
				t.Errorf("%s: the row for %d is %q", page, code.Code, row)
			}
		}
	}
}

// closeRow returns the row of the close codes that begins with a list of codes that holds this one.
func closeRow(page string, code int) string {
	for line := range strings.Lines(page) {
		cell, ok := strings.CutPrefix(line, "| ")
		cell, _, _ = strings.Cut(cell, " |")
		if ok && slices.Contains(strings.Split(cell, ", "), fmt.Sprint(code)) {
			return line
		}
	}
	return ""
}
