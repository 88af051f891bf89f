package ngword

import (
	"strings"
	"testing"

	"github.com/kmsctl/kms/runtime/store"
)

// withShipped judges by a list of what admins of Japanese games commonly forbid, next to the lists that KMS brings along.
func withShipped(t *testing.T) (*Filter, []string) {
	common := strings.Fields(`ばか あほ しね 死ね ころす きもい くそ かす ごみ ぶす でぶ ちんこ まんこ うんこ えろ ほも れず げい うざい はげ
		ちび ぶた きちがい まぬけ ざこ くず きえろ`)
	matchers := []*Matcher{compileList(t, store.NGList{Name: "common", Entries: words(store.NGMask, store.NGModeAuto, common...)})}
	for _, l := range Shipped() {
		matchers = append(matchers, compileList(t, l))
	}
	return NewFilter(matchers...), common
}

func TestShipped_ordinaryTalkPasses(t *testing.T) {
	f, _ := withShipped(t)
	for _, line := range []string{
		"やくそくだよ", "今日はなんかすごい", "わたしね、帰る", "いいしね", "わすれずにね", "スマホもある", "イエローカード", "パッシブスキル強い",
		"うん、これだ", "うん これ", "すげーいい", "いきちがいだった", "いちごミルク", "ほめられたしね", "たかすぎる", "サブスクした", "チェロ弾く",
		"くちびる", "いちびょう", "はげまして", "てんきもいいし", "ところすみません", "人ごみ", "ぜんぶすき", "着いたばかり", "おしえろください",
		"かたわらに", "すまんこれ頼む", "ドライブスルー", "アホウドリ", "まあほんと",
	} {
		if r := f.Check(line); len(r.Hits) > 0 {
			t.Errorf("%q: %+v", line, r.Hits)
		}
	}
}

// An entry like かえろ would win over なんかえろ…: the lists hold nothing that ends in a common word after a common particle.
func TestShipped_openNoHole(t *testing.T) {
	f, common := withShipped(t)
	for _, line := range []string{"%", "お前は%だ", "このくされ%", "%!!", "%やろう", "早く%", "なんか%", "マジで%", "%すぎ", "それは%", "%だろ"} {
		for _, word := range common {
			if text := strings.Replace(line, "%", word, 1); len(f.Check(text).Hits) == 0 {
				t.Errorf("%q passes", text)
			}
		}
	}
}
