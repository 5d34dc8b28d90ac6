;; WASI preview1 for guests whose toolchain brings it in (Go, wasi-libc): closed and repeatable.
;; The clock counts calls, random numbers come from a fixed seed, there are no files, arguments or environment.
;; What is written to standard output or error becomes a line of the pipeline's log: a panic's text arrives there.
;; Functions that a guest does not use are dropped when the component is made.
(module
  (import "millstream:operator/host@0.1.0" "log" (func $log (param i32 i32 i32)))
  (import "env" "memory" (memory 0))

  ;; errno: 0 success, 8 bad file descriptor, 44 no such entry, 52 not supported
  (global $nanoseconds (mut i64) (i64.const 0))
  (global $random (mut i64) (i64.const 0x5DEECE66D1234567))

  ;; Each reading is a microsecond later than the last.
  (func (export "clock_time_get") (param $clock i32) (param $precision i64) (param $out i32) (result i32)
    (global.set $nanoseconds (i64.add (global.get $nanoseconds) (i64.const 1000)))
    (i64.store (local.get $out) (global.get $nanoseconds))
    (i32.const 0))
  (func (export "clock_res_get") (param $clock i32) (param $out i32) (result i32)
    (i64.store (local.get $out) (i64.const 1000))
    (i32.const 0))

  ;; splitmix64, one byte a step
  (func $next (result i64) (local $z i64)
    (local.set $z (i64.add (global.get $random) (i64.const 0x9E3779B97F4A7C15)))
    (global.set $random (local.get $z))
    (local.set $z (i64.mul (i64.xor (local.get $z) (i64.shr_u (local.get $z) (i64.const 30))) (i64.const 0xBF58476D1CE4E5B9)))
    (local.set $z (i64.mul (i64.xor (local.get $z) (i64.shr_u (local.get $z) (i64.const 27))) (i64.const 0x94D049BB133111EB)))
    (i64.xor (local.get $z) (i64.shr_u (local.get $z) (i64.const 31))))
  (func (export "random_get") (param $at i32) (param $length i32) (result i32) (local $end i32)
    (local.set $end (i32.add (local.get $at) (local.get $length)))
    (block $full
      (loop $more
        (br_if $full (i32.ge_u (local.get $at) (local.get $end)))
        (i64.store8 (local.get $at) (call $next))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $more)))
    (i32.const 0))

  ;; Each piece is a line, except one that is only a line break.
  (func (export "fd_write") (param $file i32) (param $pieces i32) (param $count i32) (param $out i32) (result i32)
    (local $written i32) (local $length i32) (local $level i32)
    (if (i32.gt_u (local.get $file) (i32.const 2)) (then (return (i32.const 8))))
    ;; level: 2 info, 4 error
    (local.set $level (select (i32.const 4) (i32.const 2) (i32.eq (local.get $file) (i32.const 2))))
    (block $done
      (loop $more
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $length (i32.load offset=4 (local.get $pieces)))
        (if (i32.gt_u (local.get $length) (i32.const 1))
          (then (call $log (local.get $level) (i32.load (local.get $pieces)) (local.get $length))))
        (local.set $written (i32.add (local.get $written) (local.get $length)))
        (local.set $pieces (i32.add (local.get $pieces) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $more)))
    (i32.store (local.get $out) (local.get $written))
    (i32.const 0))

  (func (export "proc_exit") (param i32) unreachable)
  (func (export "proc_raise") (param i32) (result i32) unreachable)
  (func (export "sched_yield") (result i32) (i32.const 0))
  ;; No event ever comes: the guest goes on with what it has.
  (func (export "poll_oneoff") (param i32 i32 i32) (param $out i32) (result i32)
    (i32.store (local.get $out) (i32.const 0))
    (i32.const 0))

  ;; no arguments, no environment
  (func $nothing (param $count i32) (param $bytes i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $bytes) (i32.const 0))
    (i32.const 0))
  (export "args_sizes_get" (func $nothing))
  (export "environ_sizes_get" (func $nothing))
  (func $empty (param i32 i32) (result i32) (i32.const 0))
  (export "args_get" (func $empty))
  (export "environ_get" (func $empty))

  ;; no files
  (func $file (param i32) (result i32) (i32.const 8))
  (export "fd_close" (func $file))
  (export "fd_datasync" (func $file))
  (export "fd_sync" (func $file))
  (func $file_i32 (param i32 i32) (result i32) (i32.const 8))
  (export "fd_fdstat_get" (func $file_i32))
  (export "fd_fdstat_set_flags" (func $file_i32))
  (export "fd_filestat_get" (func $file_i32))
  (export "fd_prestat_get" (func $file_i32))
  (export "fd_renumber" (func $file_i32))
  (export "fd_tell" (func $file_i32))
  (export "sock_shutdown" (func $file_i32))
  (func (export "fd_prestat_dir_name") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "sock_accept") (param i32 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_read") (param i32 i32 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_seek") (param i32 i64 i32 i32) (result i32) (i32.const 8))
  (func (export "fd_filestat_set_size") (param i32 i64) (result i32) (i32.const 8))
  (func $file_i64_i64 (param i32 i64 i64) (result i32) (i32.const 8))
  (export "fd_allocate" (func $file_i64_i64))
  (export "fd_fdstat_set_rights" (func $file_i64_i64))
  (func (export "fd_advise") (param i32 i64 i64 i32) (result i32) (i32.const 8))
  (func (export "fd_filestat_set_times") (param i32 i64 i64 i32) (result i32) (i32.const 8))
  (func $file_at (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (export "fd_pread" (func $file_at))
  (export "fd_pwrite" (func $file_at))
  (export "fd_readdir" (func $file_at))
  (func $path (param i32 i32 i32) (result i32) (i32.const 44))
  (export "path_create_directory" (func $path))
  (export "path_remove_directory" (func $path))
  (export "path_unlink_file" (func $path))
  (func (export "path_filestat_get") (param i32 i32 i32 i32 i32) (result i32) (i32.const 44))
  (func (export "path_filestat_set_times") (param i32 i32 i32 i32 i64 i64 i32) (result i32) (i32.const 44))
  (func (export "path_link") (param i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 44))
  (func (export "path_open") (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (i32.const 44))
  (func $path_six (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 44))
  (export "path_readlink" (func $path_six))
  (export "path_rename" (func $path_six))
  (func (export "path_symlink") (param i32 i32 i32 i32 i32) (result i32) (i32.const 44))
  (func (export "sock_recv") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 52))
  (func (export "sock_send") (param i32 i32 i32 i32 i32) (result i32) (i32.const 52))
)
