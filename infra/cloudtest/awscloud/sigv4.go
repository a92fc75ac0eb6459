package awscloud

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// signature is what a request's Authorization header says, in AWS's Signature Version 4.
type signature struct {
	access, date, region, service string
	signed                        []string // header names, lower case
	hex                           string
}

// clockSkew is how far a request's clock may be off.
const clockSkew = 15 * time.Minute

const algorithm = "AWS4-HMAC-SHA256"

// parseSignature reads an Authorization header.
func parseSignature(header string) (signature, error) {
	var s signature
	rest, ok := strings.CutPrefix(header, algorithm)
	if !ok {
		return s, fmt.Errorf("want an Authorization header that begins with %s, have %q", algorithm, header)
	}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			scope := strings.Split(value, "/")
			if len(scope) != 5 || scope[4] != "aws4_request" {
				return s, fmt.Errorf("want a credential KEY/DATE/REGION/SERVICE/aws4_request, have %q", value)
			}
			s.access, s.date, s.region, s.service = scope[0], scope[1], scope[2], scope[3]
		case "SignedHeaders":
			s.signed = strings.Split(value, ";")
		case "Signature":
			s.hex = value
		}
	}
	if s.access == "" || s.hex == "" || !slices.Contains(s.signed, "host") {
		return s, fmt.Errorf("the Authorization header lacks a credential, a signature or the signed header host")
	}
	return s, nil
}

// escape percent-encodes as AWS wants it: everything but letters, digits and "-._~".
func escape(s string, keepSlash bool) string {
	var b strings.Builder
	for i := range len(s) {
		ch := s[i]
		plain := ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z' || ch >= '0' && ch <= '9' ||
			strings.IndexByte("-._~", ch) >= 0
		if plain || keepSlash && ch == '/' {
			b.WriteByte(ch)
		} else {
			fmt.Fprintf(&b, "%%%02X", ch)
		}
	}
	return b.String()
}

// canonical is the request in the form that is signed. Paths are encoded twice, except for S3.
func canonical(r *http.Request, s signature, bodyHash string) string {
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	if s.service == "s3" {
		path = escape(r.URL.Path, true)
	} else if path != "/" {
		path = escape(path, true)
	}
	var query []string
	// what cannot be parsed is not signed either, and the signatures differ
	values, _ := url.ParseQuery(r.URL.RawQuery)
	for k, vs := range values {
		for _, v := range vs {
			query = append(query, escape(k, false)+"="+escape(v, false))
		}
	}
	slices.Sort(query)
	var headers strings.Builder
	for _, name := range s.signed {
		value := strings.Join(r.Header.Values(name), ",")
		if name == "host" {
			value = r.Host
		}
		if name == "content-length" && value == "" {
			value = fmt.Sprint(r.ContentLength)
		}
		headers.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	return strings.Join([]string{
		r.Method, path, strings.Join(query, "&"), headers.String(), strings.Join(s.signed, ";"), bodyHash,
	}, "\n")
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// compute is the signature that the secret gives for a request.
func (s signature) compute(r *http.Request, secret, at, bodyHash string) string {
	sum := sha256.Sum256([]byte(canonical(r, s, bodyHash)))
	scope := strings.Join([]string{s.date, s.region, s.service, "aws4_request"}, "/")
	text := strings.Join([]string{algorithm, at, scope, hex.EncodeToString(sum[:])}, "\n")
	k := []byte("AWS4" + secret)
	for _, part := range []string{s.date, s.region, s.service, "aws4_request"} {
		k = mac(k, part)
	}
	return hex.EncodeToString(mac(k, text))
}

// failure is why a service turns a request down.
type failure struct {
	status        int
	code, message string
}

// verify holds a request's signature against the credentials that were handed out, for one service in one region.
func verify(r *http.Request, body []byte, service, region string, now time.Time,
	lookup func(access string) *session) (*session, *failure) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, missingSignature(service)
	}
	s, err := parseSignature(header)
	if err != nil {
		return nil, &failure{400, pick(service, "AuthorizationHeaderMalformed", "IncompleteSignatureException"),
			err.Error()}
	}
	session := lookup(s.access)
	if session == nil {
		return nil, &failure{pick(service, 403, 400),
			pick(service, "InvalidAccessKeyId", "UnrecognizedClientException"),
			pick(service, "The AWS Access Key Id you provided does not exist in our records.",
				"The security token included in the request is invalid.")}
	}
	if f := checkScope(s, service, region); f != nil {
		return nil, f
	}
	at := r.Header.Get("X-Amz-Date")
	when, err := time.Parse("20060102T150405Z", at)
	if err != nil || !strings.HasPrefix(at, s.date) {
		return nil, &failure{403, pick(service, "AccessDenied", "InvalidSignatureException"),
			"AWS authentication requires a valid Date or x-amz-date header"}
	}
	if d := now.Sub(when); d > clockSkew || d < -clockSkew {
		return nil, &failure{403, pick(service, "RequestTimeTooSkewed", "InvalidSignatureException"),
			pick(service, "The difference between the request time and the current time is too large.",
				fmt.Sprintf("Signature expired: %s is now earlier or later than %s by more than 15 min.", at,
					now.UTC().Format("20060102T150405Z")))}
	}
	if r.Header.Get("X-Amz-Security-Token") != session.token || now.After(session.expires) {
		code := pick(service, "InvalidToken", "UnrecognizedClientException")
		if now.After(session.expires) {
			code = pick(service, "ExpiredToken", "ExpiredTokenException")
		}
		return nil, &failure{400, code,
			"The provided token is malformed, missing, otherwise invalid, or has expired."}
	}
	return session, checkHash(r, body, s, session.secret, at)
}

func missingSignature(service string) *failure {
	if service == "s3" {
		return &failure{403, "AccessDenied", "Access Denied"} // an anonymous request
	}
	return &failure{400, "MissingAuthenticationTokenException", "Missing Authentication Token"}
}

func checkScope(s signature, service, region string) *failure {
	if s.region != region {
		return &failure{pick(service, 400, 403),
			pick(service, "AuthorizationHeaderMalformed", "InvalidSignatureException"),
			pick(service, fmt.Sprintf("The authorization header is malformed; the region '%s' is wrong; expecting "+
				"'%s'", s.region, region),
				fmt.Sprintf("Credential should be scoped to a valid region. (%s, not %s)", region, s.region))}
	}
	if s.service != service {
		return &failure{pick(service, 400, 403),
			pick(service, "AuthorizationHeaderMalformed", "InvalidSignatureException"),
			fmt.Sprintf("Credential should be scoped to correct service: '%s'.", service)}
	}
	return nil
}

// checkHash computes the signature again. The body counts by its hash, which S3 wants in a header of its own.
func checkHash(r *http.Request, body []byte, s signature, secret, at string) *failure {
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if given := r.Header.Get("X-Amz-Content-Sha256"); given != "" {
		if given != hash && given != "UNSIGNED-PAYLOAD" {
			return &failure{400, "XAmzContentSHA256Mismatch",
				"The provided 'x-amz-content-sha256' header does not match what was computed."}
		}
		hash = given
	} else if s.service == "s3" {
		return &failure{400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256"}
	}
	for name := range r.Header {
		if low := strings.ToLower(name); strings.HasPrefix(low, "x-amz-") && !slices.Contains(s.signed, low) {
			return &failure{403, pick(s.service, "AccessDenied", "InvalidSignatureException"),
				"There were headers present in the request which were not signed: " + low}
		}
	}
	if !hmac.Equal([]byte(s.compute(r, secret, at, hash)), []byte(s.hex)) {
		return &failure{403, pick(s.service, "SignatureDoesNotMatch", "InvalidSignatureException"),
			"The request signature we calculated does not match the signature you provided. Check your AWS Secret " +
				"Access Key and signing method."}
	}
	return nil
}

// pick is S3's way or that of the services with JSON.
func pick[T any](service string, s3, other T) T {
	if service == "s3" {
		return s3
	}
	return other
}
