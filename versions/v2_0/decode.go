package main

import (
	"github.com/kmsctl/kms/runtime/chat"
	"github.com/kmsctl/kms/runtime/hub"
	"github.com/kmsctl/kms/runtime/names"
	"github.com/kmsctl/kms/runtime/ua"
)

// Bounds of what is echoed or looked up, in bytes; the frame's own bound holds for the rest.
const (
	maxOps   = 64
	maxWord  = 32
	maxName  = 256
	maxToken = 4096
	maxText  = 64 << 10
)

// ops names the verbs as 2.0 says them.
var ops = map[string]ua.Verb{
	"hello": ua.Login, "sub": ua.Join, "unsub": ua.Leave, "send": ua.Say, "edit": ua.Edit, "del": ua.Del, "ping": ua.Ping,
}

// Decode reads an array of operations. It refuses the frame as a whole only if it cannot be taken apart.
func (protocol) Decode(frame []byte) ([]ua.Command, error) {
	value, ok := ua.ParseJSON(frame)
	if !ok {
		return nil, chat.Errorf(chat.CodeBadFrame, "not JSON")
	}
	var commands []ua.Command
	var bad *chat.Error
	ok = value.Array(func(v ua.Value) bool {
		if len(commands) == maxOps {
			bad = chat.Errorf(chat.CodeBadFrame, "more than %d operations", maxOps)
			return false
		}
		cmd, ok := decodeOp(v)
		if !ok {
			bad = chat.Errorf(chat.CodeBadFrame, "an operation is not a JSON object")
			return false
		}
		commands = append(commands, cmd)
		return true
	})
	switch {
	case !ok:
		return nil, chat.Errorf(chat.CodeBadFrame, "not a JSON array")
	case bad != nil:
		return nil, bad
	case len(commands) == 0:
		return nil, chat.Errorf(chat.CodeBadFrame, "no operation")
	}
	return commands, nil
}

func decodeOp(v ua.Value) (ua.Command, bool) {
	cmd := ua.Command{Anew: true} // every sub is told its position
	var f ua.Fields
	if !v.Object(func(name string, v ua.Value) { field(&cmd, &f, name, v) }) {
		return ua.Command{}, false
	}
	if cmd.Word == "" {
		f.Missing("op")
	}
	cmd.Verb = ops[cmd.Word]
	require(&cmd, &f)
	cmd.Bad = f.Bad
	if cmd.Bad == nil {
		cmd.Bad = check(&cmd)
	}
	return cmd, true
}

func field(cmd *ua.Command, f *ua.Fields, name string, v ua.Value) {
	switch name {
	case "op":
		f.Text(&cmd.Word, name, v, maxWord)
	case "token":
		f.Text(&cmd.Token, name, v, maxToken)
	case "ch":
		f.Text(&cmd.Channel, name, v, maxName)
	case "id":
		f.Text(&cmd.ID, name, v, maxName)
	case "target":
		f.Text(&cmd.Target, name, v, maxName)
	case "text":
		f.Text(&cmd.Text, name, v, maxText)
	case "retry":
		f.Bool(&cmd.Retry, name, v)
	case "t":
		f.Int(&cmd.Stamp, name, v)
		cmd.Stamped = true
	case "resume":
		cmd.From = decodeResume(f, v)
	}
}

func decodeResume(f *ua.Fields, v ua.Value) *hub.Position {
	var from hub.Position
	var epoch, seq bool
	if !v.Object(func(name string, v ua.Value) {
		switch name {
		case "epoch":
			f.Text(&from.Epoch, "resume.epoch", v, maxName)
			epoch = true
		case "seq":
			f.Int(&from.Seq, "resume.seq", v)
			seq = true
		}
	}) || !epoch || !seq || from.Seq < 0 {
		f.Missing("resume with its epoch and seq")
	}
	return &from
}

// require complains about a field that the operation cannot do without.
func require(cmd *ua.Command, f *ua.Fields) {
	switch cmd.Verb {
	case ua.Login:
		f.Need("token", cmd.Token)
	case ua.Join, ua.Leave:
		f.Need("ch", cmd.Channel)
	case ua.Say, ua.Edit, ua.Del:
		f.Need("ch", cmd.Channel)
		f.Need("id", cmd.ID)
		if cmd.Verb != ua.Say {
			f.Need("target", cmd.Target)
		}
		if cmd.Verb != ua.Del {
			f.Need("text", cmd.Text)
		}
	}
}

// check refuses what is well formed and still no operation. The ULID of a send is its id for everyone.
func check(cmd *ua.Command) *chat.Error {
	switch cmd.Verb {
	case "":
		return chat.Errorf(ua.CodeUnknownCommand, "there is no such op")
	case ua.Say:
		cmd.Target = ""
		fallthrough
	case ua.Edit, ua.Del:
		if err := names.MessageID(cmd.ID); err != nil {
			return chat.Errorf(chat.CodeBadName, "%v", err)
		}
		cmd.Message = cmd.ID
	}
	return nil
}
