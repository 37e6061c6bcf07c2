// SPDX-License-Identifier: Apache-2.0
#include "cli/meshd.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/fd.hpp"
#include "cli/context.hpp"

namespace mesh::cli {
namespace {

using base::Result;

std::string meshd_path() {
  std::array<char, 4096> self{};
  const ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size() - 1);
  if (length > 0) {
    const std::string path(self.data(), static_cast<std::size_t>(length));
    // installed side by side, or as the build folder has them
    for (const char* beside : {"/meshd", "/../agent/app/meshd"}) {
      std::string candidate = path.substr(0, path.rfind('/')) + beside;
      if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    }
  }
  return "meshd";
}

Result<std::string> read_to_end(int fd) {
  std::string text;
  std::array<char, 65536> buffer;
  while (true) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::fail_errno(errno, "read what meshd prints");
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

}  // namespace

Result<void> expect_known_mesh(const Context& context) {
  if (context.socket == api::kDefaultSocket || !context.config_path.empty() || !context.bpffs.empty()) return {};
  return base::fail(base::ErrorKind::kInvalid,
                    "find the tables of the agent at " + context.socket + ": it does not say",
                    "name their folder with --bpffs, or its configuration with --config");
}

Result<MeshdAnswer> run_meshd(const Context& context, std::vector<std::string> arguments) {
  arguments.emplace_back("--json");
  if (!context.config_path.empty()) arguments.insert(arguments.end(), {"--config", context.config_path});
  if (!context.bpffs.empty()) arguments.insert(arguments.end(), {"--bpffs", context.bpffs});
  std::string path = meshd_path();
  std::vector<char*> argv = {path.data()};
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);

  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return base::fail_errno(errno, "create a pipe");
  const base::Fd read_end(ends[0]);
  base::Fd write_end(ends[1]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, write_end.get(), STDOUT_FILENO);
  pid_t pid = 0;
  const int failed = ::posix_spawnp(&pid, path.c_str(), &actions, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) {
    return base::fail_errno(failed, "run " + path, "install meshd beside meshctl, or put its folder into PATH");
  }
  write_end.reset();
  auto output = read_to_end(read_end.get());
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!output) return std::unexpected(std::move(output).error());
  if (!WIFEXITED(status)) return base::fail(base::ErrorKind::kSystem, "run " + path + ": it was killed");
  return MeshdAnswer{WEXITSTATUS(status), *std::move(output)};
}

}  // namespace mesh::cli
