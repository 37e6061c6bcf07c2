// SPDX-License-Identifier: Apache-2.0
// `meshctl run --as CGROUP -- CMD`: runs a command where the mesh covers it. Moves this process into an existing
// cgroup and replaces it by the command; creates nothing, changes no privileges.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>

#include "base/fd.hpp"
#include "cli/cgroup.hpp"
#include "cli/context.hpp"

namespace mesh::cli {
namespace {

base::Result<void> enter(const Cgroup& cgroup) {
  const std::string file = cgroup.folder + "/cgroup.procs";
  const base::Fd fd(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.valid() && ::write(fd.get(), "0", 1) == 1) return {};
  const int errnum = errno;
  const char* remedy = "";
  if (errnum == EACCES || errnum == EPERM) remedy = "run it with sudo";
  if (errnum == EBUSY) remedy = "it has controllers for its children: name a cgroup below it";
  return base::fail_errno(errnum, "enter cgroup " + cgroup.path, remedy);
}

base::Result<ExitCode> run_command(const std::string& as, std::vector<std::string>& command) {
  const std::string mount = MESH_TRY(find_cgroup_mount());
  const Cgroup cgroup = MESH_TRY(find_cgroup(mount, as));
  MESH_CHECK(enter(cgroup));
  std::vector<char*> argv;
  for (std::string& word : command) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  return base::fail_errno(errno, "run " + command[0]);
}

}  // namespace

void add_run(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("run", "run a command in a cgroup that the mesh covers");
  auto as = std::make_shared<std::string>();
  auto words = std::make_shared<std::vector<std::string>>();
  command->add_option("--as", *as, "the cgroup: its path, or its name if only one has it")->required();
  command->add_option("COMMAND", *words, "the command and its arguments, after --")->required();
  command->positionals_at_end();
  command->footer(
      "The command's exit code is passed on.\n"
      "Examples:\n  sudo meshctl run --as shop.service -- curl -s 240.64.0.10\n"
      "  sudo meshctl run --as /system.slice/shop.service -- sudo -u shop ./client");
  command->callback([&context, as, words] { context.run = [as, words] { return run_command(*as, *words); }; });
}

}  // namespace mesh::cli
