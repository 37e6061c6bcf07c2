// SPDX-License-Identifier: Apache-2.0
#include "base/net_namespaces.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <utility>

namespace mesh::base {
namespace {

namespace fs = std::filesystem;

std::optional<std::uint64_t> namespace_of(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return status.st_ino;
}

class Search {
 public:
  Search(const std::string& own_folder, std::size_t max) : own_folder_(own_folder), max_(max) {
    own_ = namespace_of("/proc/self/ns/net").value_or(0);
  }

  void look_below(const fs::path& folder) {
    if (folder == own_folder_) return;
    std::ifstream processes(folder / "cgroup.procs");
    for (pid_t pid = 0; processes >> pid;) look_at(pid);
    std::error_code ignored;  // of a cgroup that goes meanwhile
    for (fs::directory_iterator entry(folder, ignored), end; entry != end; entry.increment(ignored)) {
      if (entry->is_directory(ignored)) look_below(entry->path());
    }
  }

  void look_at(pid_t pid) {
    std::string path = fmt::format("/proc/{}/ns/net", pid);
    const auto id = namespace_of(path);
    if (!id || found_.size() >= max_ || !seen_.insert(*id).second) return;
    found_.push_back({*id, pid, *id == own_ ? std::string() : std::move(path)});
  }

  std::vector<NetNamespace> take() {
    std::ranges::sort(found_, {}, [](const NetNamespace& one) { return std::pair(!one.path.empty(), one.id); });
    return std::move(found_);
  }

 private:
  const fs::path own_folder_;
  const std::size_t max_;
  std::uint64_t own_ = 0;
  std::set<std::uint64_t> seen_;
  std::vector<NetNamespace> found_;
};

}  // namespace

std::vector<NetNamespace> find_net_namespaces(const std::vector<std::string>& cgroup_folders,
                                              const std::string& own_folder, std::size_t max, OwnNamespace own) {
  Search search(own_folder, max);
  if (own == OwnNamespace::kAlways) search.look_at(::getpid());
  for (const std::string& folder : cgroup_folders) search.look_below(fs::path(folder + "/").parent_path());
  return search.take();
}

}  // namespace mesh::base
