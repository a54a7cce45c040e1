package failure

// Refused is an error of a command. Its exit code says that a retry cannot help until a setting, a permission or the key is
// changed.
type Refused struct{ Err error }

func (r Refused) Error() string { return r.Err.Error() }

// Unwrap gives the error.
func (r Refused) Unwrap() error { return r.Err }
