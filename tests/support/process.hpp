// SPDX-License-Identifier: Apache-2.0
// Child processes of the tests: started in a network namespace and a cgroup, killed and reaped when their owner goes.
// A child dies with the test process too (PR_SET_PDEATHSIG), so a crashed test leaves no process behind.
//
// What the tests themselves need (fork, ip, files) throws std::runtime_error when it fails: a test then fails with
// that text, and everything is cleaned up on the way out.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace mesh::test {

struct SpawnOptions {
  int netns = -1;      ///< Namespace to enter; -1: the caller's.
  std::string cgroup;  ///< Folder of the cgroup to join before anything else runs; empty: the caller's.
  std::string output;  ///< File that gets stdout and stderr (appended); empty: the caller's.
  std::vector<std::string> environment;  ///< "NAME=VALUE", added to the caller's.
  uid_t uid = 0;                         ///< Becomes this user (and its group of the same number `gid`); 0: stays.
  gid_t gid = 0;
  std::string directory;  ///< Working directory; empty: the caller's.
};

class Process {
 public:
  Process() = default;
  /// Runs a program, found in PATH. A program that can't be run is exit code 127.
  static Process start(const SpawnOptions& options, const std::vector<std::string>& argv);
  /// Runs a function in a forked child; its return value is the exit code. The function must not touch gtest.
  static Process start(const SpawnOptions& options, const std::function<int()>& body);

  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process();  ///< SIGKILL and reap, unless it was waited for.

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] bool running();
  void signal(int number) const;
  /// Exit code, or 128 + signal; nothing if it still runs after `timeout`.
  std::optional<int> wait(std::chrono::milliseconds timeout);
  /// SIGKILL and reap.
  void kill();

 private:
  explicit Process(pid_t pid) : pid_(pid) {}
  pid_t pid_ = -1;
  std::optional<int> status_;
};

struct Output {
  int code = -1;     ///< Exit code, 128 + signal, or 124 when the time was over and it was killed.
  std::string text;  ///< stdout
  std::string errors;
};

/// Runs a program to its end and returns what it wrote.
Output run(const std::vector<std::string>& argv, const SpawnOptions& options = {},
           std::chrono::milliseconds timeout = std::chrono::seconds(20));

/// The same, but anything but exit code 0 throws with the program's output.
std::string must_run(const std::vector<std::string>& argv, const SpawnOptions& options = {});

/// Looks every few milliseconds until `condition` holds; false when `timeout` is over first.
bool eventually(std::chrono::milliseconds timeout, const std::function<bool()>& condition);

/// Whether a program is in PATH: tests that need a foreign program skip without it.
bool have_program(const std::string& name);

}  // namespace mesh::test
