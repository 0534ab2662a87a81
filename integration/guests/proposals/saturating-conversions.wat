;; Not a number becomes 0, and 1e20 the largest integer, where both would trap.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (func (export "_start")
    (call $exit (i32.add
      (i32.trunc_sat_f32_s (f32.const nan))
      (i32.sub (i32.trunc_sat_f64_s (f64.const 1e20)) (i32.const 0x7fffffd5))))))
