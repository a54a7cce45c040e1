package failure

// Refused is an error of a command that tells its caller by its exit code that a retry cannot help until somebody changes
// something.
type Refused struct{ Err error }

func (r Refused) Error() string { return r.Err.Error() }

// Unwrap gives the error.
func (r Refused) Unwrap() error { return r.Err }
