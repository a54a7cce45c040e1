package keygen

const (
	terminalInput  = "CONIN$"
	terminalOutput = "CONOUT$"
)
