;; A global that is initialized by an addition.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (global $global i32 (i32.add (i32.const 40) (i32.const 2)))
  (func (export "_start") (call $exit (global.get $global))))
