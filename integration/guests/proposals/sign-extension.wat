;; -42 in 8 bits becomes -42 in 32.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (func (export "_start")
    (call $exit (i32.sub (i32.const 0) (i32.extend8_s (i32.const 0xd6))))))
