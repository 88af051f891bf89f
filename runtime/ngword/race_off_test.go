//go:build !race

package ngword

const raceDetector = false
