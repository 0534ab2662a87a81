package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"time"

	restclient "k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/client-go/util/exec"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
	utilexec "k8s.io/utils/exec"
)

func execInContainer(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	flags := newFlags("exec")
	sync := flags.Bool("sync", false, "as a probe does: no streams, the output afterwards")
	limit := flags.Int64("timeout", 0, "with --sync, how many `seconds` the command may take")
	input := flags.Bool("i", false, "pass standard input on")
	terminal := flags.Bool("t", false, "give it a terminal")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() < 2 {
		return errors.New("a container and a command are needed")
	}
	container, words := flags.Arg(0), flags.Args()[1:]
	if *sync {
		stdout, stderr, err := cri.ExecSync(ctx, container, words, time.Duration(*limit)*time.Second)
		os.Stdout.Write(stdout)
		os.Stderr.Write(stderr)
		return asExitCode(err)
	}
	response, err := cri.Exec(ctx, &runtime.ExecRequest{
		ContainerId: container, Cmd: words, Tty: *terminal,
		Stdin: *input, Stdout: true, Stderr: !*terminal,
	})
	if err != nil {
		return err
	}
	return stream(ctx, response.Url, *input, *terminal)
}

func attachToContainer(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	flags := newFlags("attach")
	input := flags.Bool("i", false, "pass standard input on")
	terminal := flags.Bool("t", false, "the container has a terminal")
	args, err := operands(flags, args, 1)
	if err != nil {
		return err
	}
	response, err := cri.Attach(ctx, &runtime.AttachRequest{
		ContainerId: args[0], Tty: *terminal, Stdin: *input, Stdout: true, Stderr: !*terminal,
	})
	if err != nil {
		return err
	}
	return stream(ctx, response.Url, *input, *terminal)
}

// stream connects our standard streams with what the runtime serves at `address`.
func stream(ctx context.Context, address string, input, terminal bool) error {
	parsed, err := url.Parse(address)
	if err != nil {
		return err
	}
	executor, err := remotecommand.NewSPDYExecutor(&restclient.Config{}, http.MethodPost, parsed)
	if err != nil {
		return err
	}
	options := remotecommand.StreamOptions{Stdout: os.Stdout, Tty: terminal}
	if input {
		options.Stdin = os.Stdin
	}
	if !terminal {
		options.Stderr = os.Stderr
	}
	return asExitCode(executor.StreamWithContext(ctx, options))
}

// asExitCode makes the code a command ended with ours. It has one type for streams and
// another for a probe.
func asExitCode(err error) error {
	var streamed exec.CodeExitError
	var probed utilexec.CodeExitError
	switch {
	case errors.As(err, &streamed):
		return exitCode(streamed.Code)
	case errors.As(err, &probed):
		return exitCode(probed.Code)
	}
	return err
}

func forwardPort(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	args, err := operands(newFlags("port-forward"), args, 2)
	if err != nil {
		return err
	}
	response, err := cri.PortForward(ctx, &runtime.PortForwardRequest{PodSandboxId: args[0]})
	if err != nil {
		return err
	}
	parsed, err := url.Parse(response.Url)
	if err != nil {
		return err
	}
	transport, upgrader, err := spdy.RoundTripperFor(&restclient.Config{})
	if err != nil {
		return err
	}
	client := &http.Client{Transport: transport}
	dialer := spdy.NewDialer(upgrader, client, http.MethodPost, parsed)
	addresses, ports := []string{"127.0.0.1"}, []string{args[1]}
	forwarder, err := portforward.NewOnAddresses(dialer, addresses, ports, ctx.Done(),
		make(chan struct{}), os.Stdout, os.Stderr)
	if err != nil {
		return err
	}
	return forwarder.ForwardPorts()
}
