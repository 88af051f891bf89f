// Package auth makes and hashes the secrets of KMS: API keys and user tokens. A secret is shown once and stored as its hash, so
// the stores, caches and logs of KMS never hold one. Secrets are looked up by hash: whoever times a lookup learns about hashes,
// which cannot be steered towards a stored one without the secret; that is why no comparison here needs constant time.
package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
)

// MaxSecret bounds what is worth hashing, in bytes: tokens come from game servers, which choose their own, and may be JWTs.
const MaxSecret = 4096

// NewSecret returns prefix followed by 256 random bits in unpadded base64url.
func NewSecret(prefix string) string {
	var b [32]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// Hash returns the lower-case hex sha256 under which a secret is stored. A secret has enough entropy of its own (256 bits when it
// is ours), so a slow password hash would only make logins slow.
func Hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
