;; Atomic instructions, which need no shared memory.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory 1)
  (func (export "_start")
    (i32.atomic.store (i32.const 8) (i32.const 40))
    (drop (i32.atomic.rmw.add (i32.const 8) (i32.const 2)))
    (atomic.fence)
    (call $exit (i32.atomic.load (i32.const 8)))))
