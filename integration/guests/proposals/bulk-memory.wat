;; Fills, copies, and initializes memory.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory 1)
  (data $data "\02")
  (func (export "_start")
    (memory.fill (i32.const 0) (i32.const 40) (i32.const 100))
    (memory.copy (i32.const 200) (i32.const 50) (i32.const 10))
    (memory.init $data (i32.const 300) (i32.const 0) (i32.const 1))
    (data.drop $data)
    (call $exit (i32.add (i32.load8_u (i32.const 205)) (i32.load8_u (i32.const 300))))))
