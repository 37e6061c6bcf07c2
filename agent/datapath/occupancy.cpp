// SPDX-License-Identifier: Apache-2.0
#include "datapath/occupancy.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "base/fd.hpp"
#include "datapath/canary.hpp"

namespace mesh::datapath {
namespace {

namespace fs = std::filesystem;

/// The beginning of a file of the cgroup file system; nothing if it can't be read.
std::optional<std::string> beginning_of(const fs::path& path) {
  const base::Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::array<char, 256> buffer;
  const ssize_t count = fd.valid() ? ::read(fd.get(), buffer.data(), buffer.size()) : -1;
  if (count < 0) return std::nullopt;
  return std::string(buffer.data(), static_cast<std::size_t>(count));
}

bool has_process(const fs::path& folder, std::string_view own_folder) {
  if (folder.filename() == kCanaryLeaf || folder == own_folder) return false;
  const auto events = beginning_of(folder / "cgroup.events");  // the root has none
  if (events && events->find("populated 0") != std::string::npos) return false;
  // Threads, because a threaded cgroup refuses to list processes.
  const auto threads = beginning_of(folder / "cgroup.threads");
  if (threads && !threads->empty()) return true;
  std::error_code ignored;  // of a cgroup that goes meanwhile
  for (fs::directory_iterator entry(folder, ignored), end; entry != end; entry.increment(ignored)) {
    if (entry->is_directory(ignored) && has_process(entry->path(), own_folder)) return true;
  }
  return false;
}

}  // namespace

std::optional<bool> runs_anything(const std::string& folder, std::string_view own_folder) {
  const fs::path path = fs::path(folder + "/").lexically_normal().parent_path();  // without a slash at its end
  if (!beginning_of(path / "cgroup.threads")) return std::nullopt;
  return has_process(path, own_folder);
}

}  // namespace mesh::datapath
