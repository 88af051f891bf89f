// Package controlplane holds the words and rules of a KMS host: versions, builds, sets, releases and what may be done to
// them. It starts no process and opens no socket; the packages below it do, one per technology, and daemon puts them
// together.
package controlplane
