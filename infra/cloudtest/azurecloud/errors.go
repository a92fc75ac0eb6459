package azurecloud

import (
	"fmt"
	"net/http"
)

// refusal is an answer of Resource Manager, worded as the provider passes it on.
type refusal struct {
	status        int
	code, message string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("Status=%d Code=%q Message=%q", r.status, r.code, r.message)
}

// refuse is a refusal with a formatted message.
func refuse(status int, code, format string, args ...any) error {
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

// badRequest is a refusal of the request itself.
func badRequest(code, format string, args ...any) error {
	return refuse(http.StatusBadRequest, code, format, args...)
}

// conflict is a refusal because of what is there.
func conflict(code, format string, args ...any) error {
	return refuse(http.StatusConflict, code, format, args...)
}

// invalidParameter is how the compute service words most of its refusals.
func invalidParameter(path, format string, args ...any) error {
	return badRequest("InvalidParameter", "%s (target %s)", fmt.Sprintf(format, args...), path)
}

// notEmulated is for what Azure takes and this package does not.
func notEmulated(format string, args ...any) error {
	return fmt.Errorf("the emulated Azure does not do this: %s", fmt.Sprintf(format, args...))
}
