package azurecloud

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// claims are what an access token says: who it was given to, and for what.
type claims struct {
	Audience  string `json:"aud"`
	Issuer    string `json:"iss"`
	Tenant    string `json:"tid"`
	Principal string `json:"oid"`
	Resource  string `json:"xms_mirid,omitempty"` // the machine
	NotBefore int64  `json:"nbf"`
	Expires   int64  `json:"exp"`
}

// tokenLife is how long a token of a machine's identity lasts: a day.
const tokenLife = 24 * time.Hour

// sign makes a token of claims. Azure signs with a key pair; nobody but the services here looks at the signature, so a
// secret does.
func (c *Cloud) sign(cl claims) string {
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))
	body, _ := json.Marshal(cl) // strings and numbers
	text := header + "." + base64.RawURLEncoding.EncodeToString(body)
	return text + "." + base64.RawURLEncoding.EncodeToString(c.mac(text))
}

func (c *Cloud) mac(text string) []byte {
	m := hmac.New(sha256.New, c.signing)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// issue is a token for a principal.
func (c *Cloud) issue(principal, resource, audience string) (string, claims) {
	now := c.now()
	cl := claims{
		Audience: audience, Issuer: "https://sts.windows.net/" + c.tenant + "/", Tenant: c.tenant,
		Principal: principal, Resource: resource,
		NotBefore: now.Unix(), Expires: now.Add(tokenLife).Unix(),
	}
	return c.sign(cl), cl
}

// verify reads the token of an Authorization header.
func (c *Cloud) verify(header string) (claims, error) {
	token, ok := strings.CutPrefix(header, "Bearer ")
	if !ok {
		return claims{}, errors.New("there is no bearer token")
	}
	parts := strings.Split(strings.TrimSpace(token), ".")
	if len(parts) != 3 {
		return claims{}, errors.New("the token has not three parts")
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || !hmac.Equal(signature, c.mac(parts[0]+"."+parts[1])) {
		return claims{}, errors.New("the signature does not match")
	}
	body, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return claims{}, fmt.Errorf("decode the token: %w", err)
	}
	var cl claims
	if err := json.Unmarshal(body, &cl); err != nil {
		return claims{}, fmt.Errorf("read the token: %w", err)
	}
	if now := c.now().Unix(); now >= cl.Expires || now < cl.NotBefore {
		return claims{}, errors.New("the token has expired")
	}
	return cl, nil
}

// audiences are the services that tokens are given out for.
func audiences() []string {
	return []string{
		"https://management.azure.com", "https://management.core.windows.net", "https://storage.azure.com",
		"https://vault.azure.net",
		"https://monitoring.azure.com", "https://monitor.azure.com", "https://graph.microsoft.com",
	}
}

// knownAudience reports whether the directory knows a resource that a token is asked for.
func knownAudience(resource string) bool {
	plain := strings.TrimSuffix(lower(resource), "/")
	for _, a := range audiences() {
		if plain == a {
			return true
		}
	}
	return strings.HasPrefix(plain, "https://") && strings.HasSuffix(plain, ".blob.core.windows.net")
}
