//go:build race

package ngword

const raceDetector = true
