// Command cri speaks to a container runtime as the kubelet does: it is a small crictl, made of
// the kubelet's own client library, with crictl's commands, flags and configuration files. The
// tests use it because it can be built from a Go module; where crictl is installed, each
// command line that the documentation shows works there too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/trace/noop"
	internalapi "k8s.io/cri-api/pkg/apis"
	remote "k8s.io/cri-client/pkg"
	"k8s.io/klog/v2"
)

// How long the runtime may take for an answer: as the kubelet waits.
const patience = 2 * time.Minute

// A command gets its arguments without its own name.
type command struct {
	usage string
	run   func(ctx context.Context, cri internalapi.RuntimeService, args []string) error
}

var commands = map[string]command{
	"runp":         {"[--runtime HANDLER] POD-CONFIG", runPod},
	"stopp":        {"POD", stopPod},
	"rmp":          {"POD", removePod},
	"inspectp":     {"POD", inspectPod},
	"pods":         {"[--name NAME]", listPods},
	"create":       {"POD CONTAINER-CONFIG POD-CONFIG", createContainer},
	"start":        {"CONTAINER", startContainer},
	"stop":         {"[--timeout SECONDS] CONTAINER", stopContainer},
	"rm":           {"CONTAINER", removeContainer},
	"inspect":      {"CONTAINER", inspectContainer},
	"ps":           {"[--pod POD]", listContainers},
	"logs":         {"CONTAINER", showLogs},
	"stats":        {"CONTAINER", showStats},
	"statsp":       {"POD", showPodStats},
	"update":       {"[--memory BYTES] [--cpu-quota MICROSECONDS] CONTAINER", updateContainer},
	"exec":         {"[--sync [--timeout SECONDS]] [-i] [-t] CONTAINER COMMAND...", execInContainer},
	"attach":       {"[-i] [-t] CONTAINER", attachToContainer},
	"port-forward": {"POD LOCAL:REMOTE", forwardPort},
	"info":         {"", showInfo},
	"play":         {"[--cgroup-parent CGROUP] RUNTIME-CLASS POD DIR", play},
}

// An exitCode is what a command in a container ended with; it becomes ours.
type exitCode int

func (code exitCode) Error() string { return fmt.Sprintf("exit code %d", int(code)) }

func main() {
	err := execute(os.Args[1:])
	var code exitCode
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code))
	default:
		fmt.Fprintln(os.Stderr, "cri:", err)
		os.Exit(1)
	}
}

func execute(args []string) error {
	flags := flag.NewFlagSet("cri", flag.ContinueOnError)
	endpoint := flags.String("runtime-endpoint", "unix:///run/containerd/containerd.sock", "the runtime's `socket`")
	flags.Usage = func() { usage(flags) }
	if err := flags.Parse(args); err != nil {
		return err
	}
	found, known := commands[flags.Arg(0)]
	if !known {
		usage(flags)
		return fmt.Errorf("unknown command %q", flags.Arg(0))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	quiet := klog.TODO().V(10)
	cri, err := remote.NewRemoteRuntimeService(*endpoint, patience, noop.NewTracerProvider(), &quiet)
	if err != nil {
		return fmt.Errorf("no CRI at %s: %w", *endpoint, err)
	}
	if err := found.run(ctx, cri, flags.Args()[1:]); err != nil {
		return fmt.Errorf("%s: %w", flags.Arg(0), err)
	}
	return nil
}

func usage(flags *flag.FlagSet) {
	fmt.Fprintln(os.Stderr, "usage: cri [--runtime-endpoint SOCKET] COMMAND")
	flags.PrintDefaults()
	for name, command := range commands {
		fmt.Fprintf(os.Stderr, "  %s %s\n", name, command.usage)
	}
}

// operands answers the arguments that are no flags, which must be as many as `count`.
func operands(flags *flag.FlagSet, args []string, count int) ([]string, error) {
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() != count {
		return nil, fmt.Errorf("%d arguments were given, it takes %d", flags.NArg(), count)
	}
	return flags.Args(), nil
}

func newFlags(command string) *flag.FlagSet {
	return flag.NewFlagSet(command, flag.ContinueOnError)
}
