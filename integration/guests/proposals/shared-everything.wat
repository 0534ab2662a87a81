;; A global that threads may share.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (global $global (shared mut i32) (i32.const 42))
  (func (export "_start") (call $exit (global.get $global))))
