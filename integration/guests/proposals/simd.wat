;; The sum of four products.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (func (export "_start")
    (local $sum v128)
    (local.set $sum (i32x4.mul (v128.const i32x4 1 2 3 4) (v128.const i32x4 5 6 7 1)))
    (call $exit (i32.add
      (i32.add (i32x4.extract_lane 0 (local.get $sum)) (i32x4.extract_lane 1 (local.get $sum)))
      (i32.add (i32x4.extract_lane 2 (local.get $sum)) (i32x4.extract_lane 3 (local.get $sum)))))))
