package config

// Ended is the file in which an agent leaves why it has ended: beside its Unix socket, for
// its machine's screen. There is none of one that was told to end, or that is ready.
func Ended(socket string) string { return socket + ".ended" }
