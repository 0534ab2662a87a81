package main

import (
	"context"
	"fmt"
	"os"
	"time"

	api "k8s.io/api/core/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"
	"k8s.io/klog/v2"
)

func createContainer(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	args, err := operands(newFlags("create"), args, 3)
	if err != nil {
		return err
	}
	container, pod := &runtime.ContainerConfig{}, &runtime.PodSandboxConfig{}
	if err := read(args[1], container); err != nil {
		return err
	}
	if err := read(args[2], pod); err != nil {
		return err
	}
	id, err := cri.CreateContainer(ctx, args[0], container, pod)
	if err != nil {
		return err
	}
	fmt.Println(id)
	return nil
}

func startContainer(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	args, err := operands(newFlags("start"), args, 1)
	if err != nil {
		return err
	}
	return cri.StartContainer(ctx, args[0])
}

func stopContainer(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	flags := newFlags("stop")
	grace := flags.Int64("timeout", 0, "how many `seconds` it may take before it is killed")
	args, err := operands(flags, args, 1)
	if err != nil {
		return err
	}
	return cri.StopContainer(ctx, args[0], *grace)
}

func removeContainer(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	args, err := operands(newFlags("rm"), args, 1)
	if err != nil {
		return err
	}
	return cri.RemoveContainer(ctx, args[0])
}

func inspectContainer(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	args, err := operands(newFlags("inspect"), args, 1)
	if err != nil {
		return err
	}
	response, err := cri.ContainerStatus(ctx, args[0], true)
	if err != nil {
		return err
	}
	return show(response)
}

func listContainers(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	flags := newFlags("ps")
	pod := flags.String("pod", "", "only containers of this `pod`")
	if _, err := operands(flags, args, 0); err != nil {
		return err
	}
	containers, err := cri.ListContainers(ctx, &runtime.ContainerFilter{PodSandboxId: *pod})
	if err != nil {
		return err
	}
	for _, container := range containers {
		fmt.Println(container.Id, container.State, container.Metadata.Name)
	}
	return nil
}

// showLogs reads the file the kubelet reads for `kubectl logs`.
func showLogs(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	args, err := operands(newFlags("logs"), args, 1)
	if err != nil {
		return err
	}
	response, err := cri.ContainerStatus(ctx, args[0], false)
	if err != nil {
		return err
	}
	path := response.Status.LogPath
	if path == "" {
		return fmt.Errorf("container %s has no log: log_path or the pod's log_directory is not set", args[0])
	}
	options := logs.NewLogOptions(&api.PodLogOptions{}, time.Now())
	logger := klog.TODO().V(10)
	return logs.ReadLogs(ctx, &logger, path, response.Status.Id, options, cri, os.Stdout, os.Stderr)
}

func showStats(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	args, err := operands(newFlags("stats"), args, 1)
	if err != nil {
		return err
	}
	stats, err := cri.ContainerStats(ctx, args[0])
	if err != nil {
		return err
	}
	return show(stats)
}

func updateContainer(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	flags := newFlags("update")
	memory := flags.Int64("memory", 0, "the limit in `bytes`")
	quota := flags.Int64("cpu-quota", 0, "the limit in `microseconds` a period of 100 ms")
	args, err := operands(flags, args, 1)
	if err != nil {
		return err
	}
	resources := &runtime.LinuxContainerResources{MemoryLimitInBytes: *memory, CpuQuota: *quota}
	if *quota != 0 {
		resources.CpuPeriod = 100_000
	}
	return cri.UpdateContainerResources(ctx, args[0], &runtime.ContainerResources{Linux: resources})
}
