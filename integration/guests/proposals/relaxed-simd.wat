;; A multiplication and addition that may be rounded once or twice.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (func (export "_start")
    (call $exit (i32.trunc_f32_s (f32x4.extract_lane 3 (f32x4.relaxed_madd
      (v128.const f32x4 0 0 0 4) (v128.const f32x4 0 0 0 10) (v128.const f32x4 0 0 0 2)))))))
