package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"hyper2kvm/pipeline/proc"
)

// table measures, and writes what was printed to a file, with what "go test -bench"
// has written to another one. A run that loses a ratio leaves the file as it was.
func (b bench) table(ctx context.Context, goOutput, file string) error {
	benchmarks, err := os.ReadFile(goOutput)
	if err != nil {
		return err
	}
	facts, err := machineFacts(ctx)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	b.out = io.MultiWriter(b.out, &text)
	fmt.Fprintf(b.out, "# What it takes\n\nMeasured and written by `make bench`, on %s.\n\n%s- accelerator: %s (%s)\n\n## Parts\n\n",
		time.Now().UTC().Format("2006-01-02 15:04 UTC"), facts, b.accel.Name, b.accel.Reason)
	fmt.Fprintf(b.out, "%s\n## Whole migrations, FETCH to CONVERT\n\n", goTable(string(benchmarks)))
	if err := b.ours(ctx); err != nil {
		return err
	}
	return os.WriteFile(file, text.Bytes(), 0o644)
}

// machineFacts are what figures depend on.
func machineFacts(ctx context.Context) (string, error) {
	var info unix.Sysinfo_t
	var name unix.Utsname
	if err := unix.Sysinfo(&info); err != nil {
		return "", err
	}
	if err := unix.Uname(&name); err != nil {
		return "", err
	}
	qemu, err := proc.Run(ctx, "qemu-img", "--version")
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(string(qemu), "\n")
	load := float64(info.Loads[0]) / (1 << unix.SI_LOAD_SHIFT)
	return fmt.Sprintf("- machine: %s, %d MiB of memory, load %.2f before it began\n- kernel: Linux %s\n- QEMU: %s\n",
		cpuModel(), uint64(info.Totalram)*uint64(info.Unit)>>20, load, unix.ByteSliceToString(name.Release[:]), first), nil
}

// goTable makes a table of benchmarks' results.
//
// Source: Go Benchmark Data Format, go.googlesource.com/proposal, 14313.
func goTable(output string) string {
	var text strings.Builder
	text.WriteString("| benchmark | figures |\n|---|---|\n")
	for line := range strings.Lines(output) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		var figures []string
		for i := 2; i+1 < len(f); i += 2 {
			figures = append(figures, f[i]+" "+f[i+1])
		}
		fmt.Fprintf(&text, "| %s | %s |\n", strings.TrimPrefix(f[0], "Benchmark"), strings.Join(figures, ", "))
	}
	return text.String()
}
