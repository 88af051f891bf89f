package supervise

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// markEnv says in the environment of what is run beside a set's instances for which set that is; go-plugin's own variable says so
// for the instances. Whatever they start inherits it.
const markEnv = "KMS_STARTED_FOR"

var markEnvs = []string{"PLUGIN_UNIX_SOCKET_DIR", markEnv}

// Strays are the living processes that were started for a set whose sockets lie below dir, but for those in the sessions of the
// given pids. A control plane that is killed between starting a process and writing it down leaves such.
func Strays(dir string, but map[int]bool) []Record {
	boot, err := bootID()
	if err != nil {
		return nil
	}
	var found []Record
	for _, s := range allStats() {
		if s.state != 'Z' && s.pid != os.Getpid() && !but[s.session] && startedFor(s.pid, dir) {
			found = append(found, Record{PID: s.pid, StartTicks: s.ticks, BootID: boot, Exe: exeOf(s.pid)})
		}
	}
	return found
}

// startedFor looks into the environment a process was given; that of another user cannot be read, and is none of ours.
func startedFor(pid int, dir string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return false
	}
	for pair := range bytes.SplitSeq(env, []byte{0}) {
		name, value, _ := strings.Cut(string(pair), "=")
		for _, mark := range markEnvs {
			if name == mark && strings.HasPrefix(value, dir+"/") {
				return true
			}
		}
	}
	return false
}
