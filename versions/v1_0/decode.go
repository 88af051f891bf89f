package main

import (
	"unicode/utf8"

	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/ua"
)

// Bounds of what is echoed or looked up, in bytes; the frame's own bound holds for the rest.
const (
	maxWord  = 32
	maxName  = 256
	maxID    = 64 // characters
	maxToken = 4096
	maxText  = 64 << 10
)

// requests names the verbs as 1.0 says them.
var requests = map[string]ua.Verb{
	"login": ua.Login, "join": ua.Join, "leave": ua.Leave, "say": ua.Say, "ping": ua.Ping,
}

// Decode reads one object as one command.
func (protocol) Decode(frame []byte) ([]ua.Command, error) {
	value, ok := ua.ParseJSON(frame)
	if !ok {
		return nil, chat.Errorf(chat.CodeBadFrame, "not JSON")
	}
	var cmd ua.Command
	var f ua.Fields
	if !value.Object(func(name string, v ua.Value) { field(&cmd, &f, name, v) }) {
		return nil, chat.Errorf(chat.CodeBadFrame, "not a JSON object")
	}
	if cmd.Word == "" {
		f.Missing("type")
	}
	cmd.Verb = requests[cmd.Word]
	require(&cmd, &f)
	cmd.Bad = f.Bad
	if cmd.Bad == nil {
		cmd.Bad = check(&cmd)
	}
	return []ua.Command{cmd}, nil
}

func field(cmd *ua.Command, f *ua.Fields, name string, v ua.Value) {
	switch name {
	case "type":
		f.Text(&cmd.Word, name, v, maxWord)
	case "token":
		f.Text(&cmd.Token, name, v, maxToken)
	case "channel":
		f.Text(&cmd.Channel, name, v, maxName)
	case "id":
		f.Text(&cmd.ID, name, v, maxName)
	case "text":
		f.Text(&cmd.Text, name, v, maxText)
	}
}

// require complains about a field that the request cannot do without.
func require(cmd *ua.Command, f *ua.Fields) {
	switch cmd.Verb {
	case ua.Login:
		f.Need("token", cmd.Token)
	case ua.Join, ua.Leave:
		f.Need("channel", cmd.Channel)
	case ua.Say:
		f.Need("channel", cmd.Channel)
		f.Need("id", cmd.ID)
		f.Need("text", cmd.Text)
	}
}

// check refuses what is well formed and still no request.
func check(cmd *ua.Command) *chat.Error {
	if cmd.Verb == "" {
		return chat.Errorf(ua.CodeUnknownCommand, "there is no request of this type")
	}
	if utf8.RuneCountInString(cmd.ID) > maxID {
		cmd.ID = ""
		return chat.Errorf(chat.CodeBadName, "an id has at most %d characters", maxID)
	}
	return nil
}
