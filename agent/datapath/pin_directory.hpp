// SPDX-License-Identifier: Apache-2.0
// The directory on the bpffs where a mesh lives while no agent does:
//   maps-N/      one complete set of maps, a pin per map (built as new-N/ and renamed, so it is never half there)
//   current      symlink to the set in force, flipped by rename(2)
//   links/       <cgroup id>-<hook>: the attachments
//   dead-N/      a set that was left and is being removed
// Held by an flock on the directory: one agent, or one detach, at a time. The lock ends with its process.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/fd.hpp"

namespace mesh::datapath {

/// Makes sure that `directory` (existing or not) is on a bpffs. Mounts /sys/fs/bpf if the directory is to be below it
/// and nothing is mounted there. kUnsupported with the command that helps otherwise.
base::Result<void> ensure_bpffs(const std::string& directory);

class PinDirectory {
 public:
  /// Makes the directory if need be and locks it. kConflict names the process that holds it.
  static base::Result<PinDirectory> lock(const std::string& directory);
  /// Locks an existing directory; kNotFound if there is none.
  static base::Result<PinDirectory> lock_existing(const std::string& directory);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string links_folder() const { return path_ + "/links"; }
  [[nodiscard]] std::string set_folder(unsigned number) const { return path_ + "/maps-" + std::to_string(number); }
  [[nodiscard]] std::string new_set_folder(unsigned number) const { return path_ + "/new-" + std::to_string(number); }

  [[nodiscard]] std::optional<unsigned> current() const;
  [[nodiscard]] std::vector<unsigned> sets() const;  ///< Complete ones, ascending.
  base::Result<void> set_current(unsigned number) const;
  base::Result<void> make_new_set(unsigned number) const;    ///< An empty new-N/.
  base::Result<void> finish_new_set(unsigned number) const;  ///< new-N/ -> maps-N/
  base::Result<void> remove_set(unsigned number) const;      ///< maps-N/ -> dead-N/, then gone.
  base::Result<void> remove_debris() const;                  ///< new-*/ and dead-*/ of an earlier run.
  base::Result<void> remove_all() const;                     ///< Everything, the directory too; links were detached.

 private:
  PinDirectory(std::string path, base::Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  std::string path_;
  base::Fd fd_;
};

/// The folder of the set in force, for readers that hold no lock. kNotFound if no mesh lives there.
base::Result<std::string> current_set_folder(const std::string& directory);

/// Names in a folder, sorted; empty if there is none.
std::vector<std::string> list_folder(const std::string& folder);

}  // namespace mesh::datapath
