package vmware

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"
)

// Bounds of what is read of an export: ten times what the largest vCenter gives.
const (
	mostRows    = 1 << 20 // Excel's own limit is as much
	mostCells   = 1000    // columns
	mostUnzip   = 4 << 30 // bytes of a workbook, unpacked
	keptSheet   = 16 << 20
	mostFile    = 1 << 30
	longestCell = 32767 // Source: Excel specifications and limits
)

var errNoTab = errors.New("there is no such tab")

// book is an export of RVTools: a workbook, or a file for each tab.
type book struct {
	workbook *excelize.File
	files    map[string]string // by tab
}

func openBook(path string) (*book, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRVTools, err)
	}
	switch {
	case info.IsDir():
		return openFolder(path)
	case !info.Mode().IsRegular() || info.Size() > mostFile:
		return nil, fmt.Errorf("%w: %s is no file, or has more than %d bytes", ErrRVTools, path, mostFile)
	case strings.EqualFold(filepath.Ext(path), ".csv"):
		return &book{files: map[string]string{"vInfo": path}}, nil
	}
	// Larger sheets are kept in temporary files and read from there, row by row.
	f, err := excelize.OpenFile(path, excelize.Options{RawCellValue: true, UnzipSizeLimit: mostUnzip, UnzipXMLSizeLimit: keptSheet})
	if err != nil {
		return nil, fmt.Errorf("%w: %s is neither an .xlsx file, nor a .csv file, nor a folder of them: %w", ErrRVTools, path, err)
	}
	return &book{workbook: f}, nil
}

// openFolder finds the files of an export's tabs.
func openFolder(path string) (*book, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRVTools, err)
	}
	b := &book{files: map[string]string{}}
	for _, e := range entries {
		name := strings.ToLower(e.Name())
		for _, t := range tabs {
			if strings.HasSuffix(name, strings.ToLower(t.name)+".csv") {
				b.files[t.name] = filepath.Join(path, e.Name())
			}
		}
	}
	return b, nil
}

func (b *book) close() {
	if b.workbook != nil {
		_ = b.workbook.Close() // removes its temporary files
	}
}

// read hands over a tab's first row, as names in lower case, and then the others.
func (b *book) read(tab string, take func(tabRow) error, begin func(columns []string) error) error {
	next, done, err := b.rows(tab)
	if err != nil {
		return err
	}
	defer done()
	head, err := next()
	if err != nil {
		return fmt.Errorf("%w: it has no first row: %w", ErrRVTools, err)
	}
	r := tabRow{columns: map[string]int{}}
	var names []string
	for i, cell := range head[:min(len(head), mostCells)] {
		name := strings.ToLower(strings.TrimSpace(strings.TrimPrefix(cell, "\ufeff")))
		if _, twice := r.columns[name]; !twice && name != "" {
			r.columns[name], names = i, append(names, name)
		}
	}
	if err := begin(names); err != nil {
		return err
	}
	for r.row = 2; r.row <= mostRows; r.row++ {
		if r.cells, err = next(); errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = take(r)
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: it has more than %d rows", ErrRVTools, mostRows)
}

// rows reads a tab row by row.
func (b *book) rows(tab string) (next func() ([]string, error), done func(), err error) {
	if b.workbook == nil {
		return b.lines(tab)
	}
	sheets := b.workbook.GetSheetList()
	i := slices.IndexFunc(sheets, func(s string) bool { return strings.EqualFold(s, tab) || strings.EqualFold(s, "tab"+tab) })
	if i < 0 {
		return nil, nil, errNoTab
	}
	rows, err := b.workbook.Rows(sheets[i])
	if err != nil {
		return nil, nil, err
	}
	next = func() ([]string, error) {
		if !rows.Next() {
			if err := rows.Error(); err != nil {
				return nil, err
			}
			return nil, io.EOF
		}
		return rows.Columns()
	}
	return next, func() { _ = rows.Close() }, nil
}

// lines reads a .csv file. What separates its cells depends on the language of the
// Windows that RVTools ran on.
func (b *book) lines(tab string) (next func() ([]string, error), done func(), err error) {
	path, ok := b.files[tab]
	if !ok {
		return nil, nil, errNoTab
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	in := bufio.NewReaderSize(io.LimitReader(f, mostFile), 64<<10)
	head, err := in.Peek(32 << 10)
	if len(head) == 0 {
		return nil, nil, errors.Join(fmt.Errorf("%w: %s is empty: %w", ErrRVTools, path, err), f.Close())
	}
	first, _, _ := strings.Cut(string(head), "\n")
	out := csv.NewReader(in)
	out.FieldsPerRecord, out.LazyQuotes, out.ReuseRecord = -1, true, true
	for _, sep := range ",;\t" {
		if strings.Count(first, string(sep)) > strings.Count(first, string(out.Comma)) {
			out.Comma = sep
		}
	}
	return out.Read, func() { _ = f.Close() }, nil
}

// tabRow is one row of a tab.
type tabRow struct {
	columns map[string]int
	cells   []string
	row     int
}

// text is a row's cell in the first of some columns that the tab has.
func (r tabRow) text(columns ...string) string {
	for _, c := range columns {
		if i, ok := r.columns[c]; ok {
			if i >= len(r.cells) {
				return ""
			}
			cell := r.cells[i]
			if len(cell) > longestCell {
				cell = cell[:longestCell]
			}
			if !utf8.ValidString(cell) {
				cell = strings.ToValidUTF8(cell, "?")
			}
			return strings.TrimSpace(cell)
		}
	}
	return ""
}

// yes tells whether a cell holds.
func (r tabRow) yes(columns ...string) bool {
	switch strings.ToLower(r.text(columns...)) {
	case "true", "1", "yes":
		return true
	}
	return false
}

var grouped = regexp.MustCompile(`^\d{1,3}(?:[.,' \x{a0}\x{202f}’]\d{3})+$`)

// number is a cell with a number, 0 for what is none. Thousands may be set apart.
func (r tabRow) number(columns ...string) int64 {
	text := r.text(columns...)
	if grouped.MatchString(text) {
		text = strings.Map(func(c rune) rune {
			if c >= '0' && c <= '9' {
				return c
			}
			return -1
		}, text)
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 || n > 1<<52 {
		return 0
	}
	return int64(n)
}

// size is a cell in MiB, which older versions call MB, as bytes.
func (r tabRow) size(columns ...string) int64 {
	return min(r.number(columns...), 1<<42) << 20
}

// excelEpoch is day 0 of a workbook's dates.
var excelEpoch = time.Date(1899, 12, 30, 0, 0, 0, 0, time.UTC)

// time is a cell with a point in time: a workbook's number of days, or text; the zero
// time for what cannot be read.
func (r tabRow) time(columns ...string) time.Time {
	text := r.text(columns...)
	if days, err := strconv.ParseFloat(text, 64); err == nil && days > 0 && days < 100_000 {
		return excelEpoch.Add(time.Duration(days * 24 * float64(time.Hour))).Round(time.Second)
	}
	for _, layout := range []string{"2006/01/02 15:04:05", "2006-01-02 15:04:05", time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at
		}
	}
	return time.Time{}
}
