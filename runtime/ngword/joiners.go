package ngword

import (
	"strings"
	"sync"

	"github.com/kmsctl/kms/runtime/store"
)

// joiners are words that a word of a list may be joined to and still be one: `fuckingshit` holds `shit` for a list that knows
// only that. They are never hits themselves.
var joiners = sync.OnceValue(func() *Matcher {
	list := store.NGList{Name: "joiners"}
	for word := range strings.FieldsSeq("fuck fucking fucker fucked shit shitty cunt bitch ass arse asshole dick cock twat whore slut bastard wank " +
		"piss pussy damn goddamn tits motherfucker bull mother dumb horse nigger faggot") {
		list.Entries = append(list.Entries, store.NGEntry{Word: word, Kind: store.NGWord})
	}
	m, err := Compile(list)
	if err != nil {
		panic(err) // the words are part of the program
	}
	return m
})
