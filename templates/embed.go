// Package templates embeds what KMS generates its surroundings from: nginx and IRC server configurations, systemd units and
// the chat page. Rendering lives with whoever uses a template.
package templates

import "embed"

// FS holds the templates by folder.
//
//go:embed irc nginx systemd web
var FS embed.FS
