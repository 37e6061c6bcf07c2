// SPDX-License-Identifier: Apache-2.0
#include "tests/support/process.hpp"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <utility>

namespace mesh::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kCannotStart = 126;
constexpr auto kPollPause = std::chrono::milliseconds(2);

[[noreturn]] void give_up(const char* what) {
  const std::string text = std::string("child: ") + what + ": " + std::strerror(errno) + "\n";
  [[maybe_unused]] const auto ignored = ::write(STDERR_FILENO, text.data(), text.size());
  ::_exit(kCannotStart);
}

/// In the child: becomes what the options say.
void settle(const SpawnOptions& options) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  if (!options.output.empty()) {
    const int fd = ::open(options.output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) give_up(options.output.c_str());
    ::dup2(fd, STDOUT_FILENO);
    ::dup2(fd, STDERR_FILENO);
  }
  if (!options.cgroup.empty()) {
    const std::string file = options.cgroup + "/cgroup.procs";
    const int fd = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0 || ::write(fd, "0", 1) != 1) give_up(file.c_str());
    ::close(fd);
  }
  if (options.netns >= 0 && ::setns(options.netns, CLONE_NEWNET) != 0) give_up("setns");
  if (!options.directory.empty() && ::chdir(options.directory.c_str()) != 0) give_up(options.directory.c_str());
  if (options.uid != 0) {
    if (::setgroups(0, nullptr) != 0 || ::setgid(options.gid) != 0 || ::setuid(options.uid) != 0) give_up("setuid");
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a change of user clears it
  }
}

[[noreturn]] void execute(const SpawnOptions& options, const std::vector<std::string>& argv) {
  for (const std::string& variable : options.environment) {
    const auto equals = variable.find('=');
    ::setenv(variable.substr(0, equals).c_str(), variable.substr(equals + 1).c_str(), 1);
  }
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  std::fprintf(stderr, "%s: %s\n", arguments[0], std::strerror(errno));
  ::_exit(127);
}

int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

pid_t fork_or_throw() {
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
  return pid;
}

}  // namespace

Process Process::start(const SpawnOptions& options, const std::vector<std::string>& argv) {
  const pid_t pid = fork_or_throw();
  if (pid == 0) {
    settle(options);
    execute(options, argv);
  }
  return Process(pid);
}

Process Process::start(const SpawnOptions& options, const std::function<int()>& body) {
  const pid_t pid = fork_or_throw();
  if (pid == 0) {
    settle(options);
    int code = kCannotStart;
    try {
      code = body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "child: %s\n", error.what());
    }
    std::fflush(nullptr);
    ::_exit(code);
  }
  return Process(pid);
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), status_(std::exchange(other.status_, std::nullopt)) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    kill();
    pid_ = std::exchange(other.pid_, -1);
    status_ = std::exchange(other.status_, std::nullopt);
  }
  return *this;
}

Process::~Process() { kill(); }

bool Process::running() { return !wait(std::chrono::milliseconds(0)).has_value(); }

void Process::signal(int number) const {
  if (pid_ > 0 && !status_) ::kill(pid_, number);
}

std::optional<int> Process::wait(std::chrono::milliseconds timeout) {
  if (pid_ <= 0 || status_) return status_.value_or(0);
  const auto deadline = Clock::now() + timeout;
  while (true) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) return status_ = exit_code(status);
    if (Clock::now() >= deadline) return std::nullopt;
    std::this_thread::sleep_for(kPollPause);
  }
}

void Process::kill() {
  if (pid_ <= 0 || status_) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  status_ = exit_code(status);
}

Output run(const std::vector<std::string>& argv, const SpawnOptions& options, std::chrono::milliseconds timeout) {
  std::array<int, 2> out{};
  std::array<int, 2> errors{};
  if (::pipe2(out.data(), O_CLOEXEC) != 0 || ::pipe2(errors.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
  const pid_t pid = fork_or_throw();
  if (pid == 0) {
    ::dup2(out[1], STDOUT_FILENO);
    ::dup2(errors[1], STDERR_FILENO);
    settle(options);
    execute(options, argv);
  }
  ::close(out[1]);
  ::close(errors[1]);

  Output result;
  const auto deadline = Clock::now() + timeout;
  std::array<pollfd, 2> waits{pollfd{out[0], POLLIN, 0}, pollfd{errors[0], POLLIN, 0}};
  const std::array<std::string*, 2> texts{&result.text, &result.errors};
  bool late = false;
  while (waits[0].fd >= 0 || waits[1].fd >= 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) {
      late = true;
      break;
    }
    if (::poll(waits.data(), waits.size(), static_cast<int>(left)) < 0 && errno != EINTR) break;
    for (std::size_t i = 0; i < waits.size(); ++i) {
      if (waits[i].fd < 0 || waits[i].revents == 0) continue;
      std::array<char, 16384> buffer;
      const ssize_t size = ::read(waits[i].fd, buffer.data(), buffer.size());
      if (size > 0) {
        texts[i]->append(buffer.data(), static_cast<std::size_t>(size));
      } else {
        ::close(waits[i].fd);
        waits[i].fd = -1;
      }
    }
  }
  for (const pollfd& wait : waits) {
    if (wait.fd >= 0) ::close(wait.fd);
  }
  if (late) ::kill(pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  result.code = late ? 124 : exit_code(status);
  return result;
}

std::string must_run(const std::vector<std::string>& argv, const SpawnOptions& options) {
  Output output = run(argv, options);
  if (output.code == 0) return std::move(output.text);
  std::string command;
  for (const std::string& argument : argv) command += argument + " ";
  throw std::runtime_error(command + "failed with " + std::to_string(output.code) + ": " + output.errors + output.text);
}

bool eventually(std::chrono::milliseconds timeout, const std::function<bool()>& condition) {
  const auto deadline = Clock::now() + timeout;
  while (!condition()) {
    if (Clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kPollPause);
  }
  return true;
}

bool have_program(const std::string& name) {
  const char* folders = std::getenv("PATH");
  std::istringstream path(folders != nullptr ? folders : "");
  for (std::string folder; std::getline(path, folder, ':');) {
    if (::access((folder + "/" + name).c_str(), X_OK) == 0) return true;
  }
  return false;
}

}  // namespace mesh::test
