# What the examples' Makefiles share: where their results go, and how an image is made.

OUT ?= ../../target
out := $(abspath $(OUT))
# What makes images without buildah; `make build` in the root of the repository builds it.
runwasm := $(out)/release/runwasm
wasm_annotation := --annotation module.wasm.image/variant=compat

.DELETE_ON_ERROR:

# $(call image,ROOTFS,FLAGS): the target's image from the Containerfile and a root directory.
# buildah's storage goes away again, and vfs is the driver that works on every file system. With
# no RUN and nothing but scratch to start FROM, no registry, network, namespace or seccomp filter
# is involved. The fixed timestamp makes equal inputs equal images.
define image
@mkdir -p $(@D) && rm -f $@ && storage=$$(mktemp -d) && trap 'rm -rf "$$storage"' EXIT && \
	buildah="buildah --root $$storage/root --runroot $$storage/run --storage-driver vfs" && \
	$$buildah build --quiet --timestamp 0 $(2) --tag localhost/$(basename $(@F)) \
		--file $< $(out)/rootfs/$(1) >/dev/null && \
	$$buildah push --quiet localhost/$(basename $(@F)) oci-archive:$@:localhost/$(basename $(@F)):latest && \
	echo "image $(@F)"
endef
