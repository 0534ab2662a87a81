;; A mutable global that is exported.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (global $global (export "global") (mut i32) (i32.const 40))
  (func (export "_start")
    (global.set $global (i32.add (global.get $global) (i32.const 2)))
    (call $exit (global.get $global))))
