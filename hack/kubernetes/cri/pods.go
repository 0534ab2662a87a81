package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
	"sigs.k8s.io/yaml"
)

// read fills a message from a YAML or JSON file; an unknown field is an error.
func read(file string, into any) error {
	bytes, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.UnmarshalStrict(bytes, into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// show prints a message as JSON.
func show(message any) error {
	bytes, err := json.MarshalIndent(message, "", "  ")
	if err != nil {
		return err
	}
	fmt.Println(string(bytes))
	return nil
}

func runPod(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	flags := newFlags("runp")
	handler := flags.String("runtime", "", "the runtime `handler`, as in a RuntimeClass")
	args, err := operands(flags, args, 1)
	if err != nil {
		return err
	}
	config := &runtime.PodSandboxConfig{}
	if err := read(args[0], config); err != nil {
		return err
	}
	id, err := cri.RunPodSandbox(ctx, config, *handler)
	if err != nil {
		return err
	}
	fmt.Println(id)
	return nil
}

func stopPod(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	args, err := operands(newFlags("stopp"), args, 1)
	if err != nil {
		return err
	}
	return cri.StopPodSandbox(ctx, args[0])
}

func removePod(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	args, err := operands(newFlags("rmp"), args, 1)
	if err != nil {
		return err
	}
	return cri.RemovePodSandbox(ctx, args[0])
}

func inspectPod(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	args, err := operands(newFlags("inspectp"), args, 1)
	if err != nil {
		return err
	}
	response, err := cri.PodSandboxStatus(ctx, args[0], true)
	if err != nil {
		return err
	}
	return show(response)
}

func listPods(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	flags := newFlags("pods")
	name := flags.String("name", "", "only pods of this `name`")
	if _, err := operands(flags, args, 0); err != nil {
		return err
	}
	pods, err := cri.ListPodSandbox(ctx, nil)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		if *name == "" || pod.Metadata.Name == *name {
			fmt.Println(pod.Id, pod.State, pod.Metadata.Name, pod.RuntimeHandler)
		}
	}
	return nil
}

func showPodStats(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	args, err := operands(newFlags("statsp"), args, 1)
	if err != nil {
		return err
	}
	stats, err := cri.PodSandboxStats(ctx, args[0])
	if err != nil {
		return err
	}
	return show(stats)
}

func showInfo(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	if _, err := operands(newFlags("info"), args, 0); err != nil {
		return err
	}
	status, err := cri.Status(ctx, true)
	if err != nil {
		return err
	}
	return show(status)
}
