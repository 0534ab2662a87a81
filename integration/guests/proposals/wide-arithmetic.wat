;; The upper half of a product of 128 bits.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (func (export "_start")
    (i64.mul_wide_u (i64.const 0x2a0000000) (i64.const 0x1000000000000000))
    (i32.wrap_i64)
    (call $exit)
    (drop)))
