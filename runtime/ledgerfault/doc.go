// Package ledgerfault holds the deliberate faults that the ledger test has to find: each is one mistake in the path of a message
// that a test of less than a whole KMS might overlook. They exist only in builds with the tag ledgerfaults; without it Is is a
// constant and nothing of them is left in the program.
package ledgerfault

// Fault names one mistake.
type Fault string

// The mistakes.
const (
	AckBeforeCommit Fault = "a message is acknowledged before it is committed"
	AckRolledBack   Fault = "a batch that was rolled back is acknowledged"
	AckFailedRetry  Fault = "the retry of a message that failed is acknowledged from memory"
	NoDedup         Fault = "a retry is logged again"
	NoOrder         Fault = "messages go out as they come from the bus"
	NoGapCheck      Fault = "a hole is skipped without a read"
	NoHeal          Fault = "a hole is never filled"
	LateLineTwice   Fault = "a line that comes late goes out again"
	NoHeadCheck     Fault = "nobody asks the log what moved"
	ResumeOffByOne  Fault = "resume begins one too late"
	RingNotRebuilt  Fault = "an empty ring passes for the whole log"
	LiveTooLate     Fault = "who has caught up misses the next batches"
	ChangeNotStored Fault = "who comes late gets what was edited or deleted"
	GameChangeLost  Fault = "the log keeps what the game's server has changed"
	PurgeUnsaid     Fault = "resume begins where the log does and says nothing"
	PurgeTooMuch    Fault = "a message that is to stay is removed with the old ones"
	EpochsKept      Fault = "a restored channel goes on in its old epoch"
	UnloggedTwice   Fault = "without history a message goes out twice"
	UnloggedOrder   Fault = "without history a message waits for its turn and others do not"
)

// All is every fault there is.
func All() []Fault {
	return []Fault{
		AckBeforeCommit, AckRolledBack, AckFailedRetry, NoDedup, NoOrder, NoGapCheck, NoHeal, LateLineTwice, NoHeadCheck,
		ResumeOffByOne, RingNotRebuilt, LiveTooLate, ChangeNotStored, GameChangeLost, PurgeUnsaid, PurgeTooMuch, EpochsKept,
		UnloggedTwice, UnloggedOrder,
	}
}

// Mark is what the end of a program holds, somewhere in its last kilobyte, to have a fault.
func Mark(f Fault) []byte { return []byte("\nledgerfault:" + string(f) + "\n") }
