;; A memory of 42 bytes.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory 42 (pagesize 1))
  (func (export "_start") (call $exit (memory.size))))
