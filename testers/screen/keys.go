package screen

// stroke is a key of a US keyboard as Linux numbers it, which for these is as QEMU
// numbers it too, with the shift key or not.
// Source: Linux, include/uapi/linux/input-event-codes.h; QEMU,
// ui/keycodemapdb/data/keymaps.csv, the columns of Linux and of AT set 1.
type stroke struct {
	key   int
	shift bool
}

// Keys that are no characters, as a serial console has them.
const (
	Enter     = '\r'
	Backspace = 0x7f
	Tab       = '\t'
)

const shiftKey = 42

// rows are the keys by what is on them, without and with shift; the number is that of
// the first.
var rows = []struct {
	first         int
	plain, shifts string
}{
	{2, "1234567890-=", "!@#$%^&*()_+"},
	{16, "qwertyuiop[]", "QWERTYUIOP{}"},
	{30, "asdfghjkl;'`", "ASDFGHJKL:\"~"},
	{43, `\zxcvbnm,./`, "|ZXCVBNM<>?"},
}

// strokes are how characters are typed.
var strokes = func() map[byte]stroke {
	all := map[byte]stroke{Enter: {key: 28}, Backspace: {key: 14}, Tab: {key: 15}, ' ': {key: 57}}
	for _, row := range rows {
		for i := range len(row.plain) {
			all[row.plain[i]] = stroke{row.first + i, false}
			all[row.shifts[i]] = stroke{row.first + i, true}
		}
	}
	return all
}()

// Keys are pressed together for a character, as Linux numbers them; nil for what no US
// keyboard has.
func Keys(c byte) []int {
	s, ok := strokes[c]
	switch {
	case !ok:
		return nil
	case s.shift:
		return []int{shiftKey, s.key}
	}
	return []int{s.key}
}
