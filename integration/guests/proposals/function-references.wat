;; A call by a reference of the function's type.
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (type $double (func (param i32) (result i32)))
  (elem declare func $double)
  (func $double (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))
  (func $apply (param $function (ref $double)) (result i32)
    (call_ref $double (i32.const 21) (local.get $function)))
  (func (export "_start") (call $exit (call $apply (ref.func $double)))))
