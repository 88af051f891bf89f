// Package bus carries envelopes between the processes of KMS over an IRC network, one connection a process. It is the fast
// path only: what is published while the connection is down, or lost in a split, is read from the log by whoever lacks it.
// KMS channels are hashed onto a number of IRC channels; several envelopes travel in one line, and each line is sealed with
// an HMAC under the link's key, so that nobody else on the IRC server can speak. Servers cut long lines and stall on long
// bursts without a word: lines are packed to what receivers get whole, and a PING is awaited after each few kilobytes.
package bus
