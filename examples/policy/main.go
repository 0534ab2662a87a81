// A policy for Kubernetes' admission control, by Kubewarden's protocol for WASI policies: the
// command is the first argument, the request comes on standard input, the verdict goes to
// standard output.
//
// It rejects pods with privileged containers, except in the namespaces that its settings list.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

type settings struct {
	AllowedNamespaces []string `json:"allowedNamespaces"`
}

// validationRequest is what `validate` reads.
type validationRequest struct {
	Request struct {
		Namespace string `json:"namespace"`
		Object    struct {
			Kind string `json:"kind"`
			Spec struct {
				InitContainers []container `json:"initContainers"`
				Containers     []container `json:"containers"`
			} `json:"spec"`
		} `json:"object"`
	} `json:"request"`
	Settings settings `json:"settings"`
}

type container struct {
	Name            string `json:"name"`
	SecurityContext struct {
		Privileged bool `json:"privileged"`
	} `json:"securityContext"`
}

// verdict is what `validate` writes.
type verdict struct {
	Accepted bool   `json:"accepted"`
	Message  string `json:"message,omitempty"`
	Code     int    `json:"code,omitempty"`
}

// settingsVerdict is what `validate-settings` writes.
type settingsVerdict struct {
	Valid   bool   `json:"valid"`
	Message string `json:"message,omitempty"`
}

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "policy:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("one argument is needed: validate, validate-settings or protocol-version")
	}
	var answer any
	switch args[0] {
	case "protocol-version":
		answer = "v1"
	case "validate-settings":
		answer = validateSettings(in)
	case "validate":
		var request validationRequest
		if err := json.NewDecoder(in).Decode(&request); err != nil {
			return fmt.Errorf("the request on standard input is no JSON of an admission request: %w", err)
		}
		answer = validate(request)
	default:
		return fmt.Errorf("%q is none of validate, validate-settings, protocol-version", args[0])
	}
	return json.NewEncoder(out).Encode(answer)
}

func validate(request validationRequest) verdict {
	object := request.Request.Object
	if object.Kind != "Pod" || slices.Contains(request.Settings.AllowedNamespaces, request.Request.Namespace) {
		return verdict{Accepted: true}
	}
	for _, container := range slices.Concat(object.Spec.InitContainers, object.Spec.Containers) {
		if container.SecurityContext.Privileged {
			message := fmt.Sprintf("container %q is privileged", container.Name)
			return verdict{Message: message, Code: 403}
		}
	}
	return verdict{Accepted: true}
}

func validateSettings(in io.Reader) settingsVerdict {
	decoder := json.NewDecoder(in)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&settings{}); err != nil {
		return settingsVerdict{Message: err.Error()}
	}
	return settingsVerdict{Valid: true}
}
