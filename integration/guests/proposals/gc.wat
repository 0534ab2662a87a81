;; Ten million cells of which one lives at a time: more than the memory that the suite allows.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (type $cell (struct (field $number (mut i32)) (field $small (ref i31))))
  (type $bytes (array (mut i8)))
  (func (export "_start")
    (local $left i32)
    (local $cell (ref null $cell))
    (local $bytes (ref null $bytes))
    (local.set $left (i32.const 10000000))
    (loop $again
      (local.set $cell (struct.new $cell (i32.const 30) (ref.i31 (i32.const 2))))
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    (local.set $bytes (array.new $bytes (i32.const 5) (i32.const 10)))
    (call $exit (i32.add
      (struct.get $cell $number (local.get $cell))
      (i32.add
        (i31.get_u (struct.get $cell $small (local.get $cell)))
        (i32.mul (i32.const 2) (array.get_u $bytes (local.get $bytes) (i32.const 9))))))))
