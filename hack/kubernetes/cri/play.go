package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	api "k8s.io/api/core/v1"
	node "k8s.io/api/node/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const cpuPeriod = 100_000

// play runs a Kubernetes pod as the kubelet would, as far as our examples go, and prints the ids
// of the pod and of its containers. `DIR` takes its logs and volumes.
func play(ctx context.Context, cri internalapi.RuntimeService, args []string) error {
	flags := newFlags("play")
	parent := flags.String("cgroup-parent", "", "the `cgroup` of the pod")
	args, err := operands(flags, args, 3)
	if err != nil {
		return err
	}
	class, pod, dir := &node.RuntimeClass{}, &api.Pod{}, args[2]
	if err := read(args[0], class); err != nil {
		return err
	}
	if err := read(args[1], pod); err != nil {
		return err
	}
	if name := pod.Spec.RuntimeClassName; name == nil || *name != class.Name {
		return fmt.Errorf("%s does not name the runtime class %s", args[1], class.Name)
	}
	config := &runtime.PodSandboxConfig{
		Metadata:     &runtime.PodSandboxMetadata{Name: pod.Name, Namespace: "default", Uid: filepath.Base(dir)},
		Annotations:  pod.Annotations,
		LogDirectory: dir,
		Linux:        &runtime.LinuxPodSandboxConfig{CgroupParent: *parent},
	}
	id, err := cri.RunPodSandbox(ctx, config, class.Handler)
	if err != nil {
		return err
	}
	fmt.Println(id)
	for i := range pod.Spec.Containers {
		container, err := cri.CreateContainer(ctx, id, toCRI(&pod.Spec.Containers[i], dir), config)
		if err != nil {
			return err
		}
		fmt.Println(container)
		if err := cri.StartContainer(ctx, container); err != nil {
			return err
		}
	}
	return nil
}

func toCRI(container *api.Container, dir string) *runtime.ContainerConfig {
	config := &runtime.ContainerConfig{
		Metadata: &runtime.ContainerMetadata{Name: container.Name},
		Image:    &runtime.ImageSpec{Image: container.Image},
		Command:  container.Command,
		Args:     container.Args,
		LogPath:  container.Name + ".log",
		Linux: &runtime.LinuxContainerConfig{
			Resources:       toResources(container.Resources.Limits),
			SecurityContext: toSecurityContext(container.SecurityContext),
		},
	}
	for _, variable := range container.Env {
		config.Envs = append(config.Envs, &runtime.KeyValue{Key: variable.Name, Value: variable.Value})
	}
	for _, mount := range container.VolumeMounts {
		host := filepath.Join(dir, "volumes", mount.Name)
		// Writable for all, as an emptyDir is. What cannot be made, the runtime reports.
		_ = os.MkdirAll(host, 0o777)
		_ = os.Chmod(host, 0o777)
		config.Mounts = append(config.Mounts, &runtime.Mount{HostPath: host, ContainerPath: mount.MountPath})
	}
	return config
}

func toResources(limits api.ResourceList) *runtime.LinuxContainerResources {
	resources := &runtime.LinuxContainerResources{MemoryLimitInBytes: limits.Memory().Value()}
	if cpu := limits.Cpu().MilliValue(); cpu != 0 {
		resources.CpuPeriod, resources.CpuQuota = cpuPeriod, cpu*cpuPeriod/1000
	}
	return resources
}

func toSecurityContext(asked *api.SecurityContext) *runtime.LinuxContainerSecurityContext {
	context := &runtime.LinuxContainerSecurityContext{}
	if asked == nil {
		return context
	}
	if asked.RunAsUser != nil {
		context.RunAsUser = &runtime.Int64Value{Value: *asked.RunAsUser}
	}
	context.ReadonlyRootfs = asked.ReadOnlyRootFilesystem != nil && *asked.ReadOnlyRootFilesystem
	return context
}
