package awscloud

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http/httptest"
	"slices"
	"testing"
)

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func sortStrings(s []string) { slices.Sort(s) }

// The requests, keys and signatures are those of AWS's documentation of Signature Version 4.
func TestSignaturesAreAWS(t *testing.T) {
	t.Run("get-vanilla", func(t *testing.T) {
		r := httptest.NewRequest("GET", "https://example.amazonaws.com/", nil)
		r.Header.Set("X-Amz-Date", "20150830T123600Z")
		s := signature{date: "20150830", region: "us-east-1", service: "service",
			signed: []string{"host", "x-amz-date"}}
		have := s.compute(r, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830T123600Z", sha(""))
		if have != "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31" {
			t.Error(have)
		}
	})
	t.Run("object", func(t *testing.T) {
		r := httptest.NewRequest("GET", "https://examplebucket.s3.amazonaws.com/test.txt", nil)
		r.Header.Set("Range", "bytes=0-9")
		r.Header.Set("X-Amz-Date", "20130524T000000Z")
		r.Header.Set("X-Amz-Content-Sha256", sha(""))
		s := signature{
			date: "20130524", region: "us-east-1", service: "s3",
			signed: []string{"host", "range", "x-amz-content-sha256", "x-amz-date"},
		}
		have := s.compute(r, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524T000000Z", sha(""))
		if have != "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41" {
			t.Error(have)
		}
	})
	t.Run("query", func(t *testing.T) {
		r := httptest.NewRequest("GET", "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08", nil)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		r.Header.Set("X-Amz-Date", "20150830T123600Z")
		s := signature{date: "20150830", region: "us-east-1", service: "iam",
			signed: []string{"content-type", "host", "x-amz-date"}}
		have := s.compute(r, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830T123600Z", sha(""))
		if have != "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7" {
			t.Error(have)
		}
	})
}

func FuzzAuthorizationHeadersDoNotPanic(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=A/20150830/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=00")
	f.Add("AWS4-HMAC-SHA256 Credential=//, SignedHeaders=")
	f.Fuzz(func(t *testing.T, header string) {
		if s, err := parseSignature(header); err == nil && (s.access == "" || s.hex == "") {
			t.Errorf("%q is taken as %+v", header, s)
		}
	})
}
